/*
The script of a report holds these libraries, under these licences.

================================================================================
echarts 6.1.0 (Apache-2.0)
================================================================================

Apache License
                           Version 2.0, January 2004
                        http://www.apache.org/licenses/

   TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION

   1. Definitions.

      "License" shall mean the terms and conditions for use, reproduction,
      and distribution as defined by Sections 1 through 9 of this document.

      "Licensor" shall mean the copyright owner or entity authorized by
      the copyright owner that is granting the License.

      "Legal Entity" shall mean the union of the acting entity and all
      other entities that control, are controlled by, or are under common
      control with that entity. For the purposes of this definition,
      "control" means (i) the power, direct or indirect, to cause the
      direction or management of such entity, whether by contract or
      otherwise, or (ii) ownership of fifty percent (50%) or more of the
      outstanding shares, or (iii) beneficial ownership of such entity.

      "You" (or "Your") shall mean an individual or Legal Entity
      exercising permissions granted by this License.

      "Source" form shall mean the preferred form for making modifications,
      including but not limited to software source code, documentation
      source, and configuration files.

      "Object" form shall mean any form resulting from mechanical
      transformation or translation of a Source form, including but
      not limited to compiled object code, generated documentation,
      and conversions to other media types.

      "Work" shall mean the work of authorship, whether in Source or
      Object form, made available under the License, as indicated by a
      copyright notice that is included in or attached to the work
      (an example is provided in the Appendix below).

      "Derivative Works" shall mean any work, whether in Source or Object
      form, that is based on (or derived from) the Work and for which the
      editorial revisions, annotations, elaborations, or other modifications
      represent, as a whole, an original work of authorship. For the purposes
      of this License, Derivative Works shall not include works that remain
      separable from, or merely link (or bind by name) to the interfaces of,
      the Work and Derivative Works thereof.

      "Contribution" shall mean any work of authorship, including
      the original version of the Work and any modifications or additions
      to that Work or Derivative Works thereof, that is intentionally
      submitted to Licensor for inclusion in the Work by the copyright owner
      or by an individual or Legal Entity authorized to submit on behalf of
      the copyright owner. For the purposes of this definition, "submitted"
      means any form of electronic, verbal, or written communication sent
      to the Licensor or its representatives, including but not limited to
      communication on electronic mailing lists, source code control systems,
      and issue tracking systems that are managed by, or on behalf of, the
      Licensor for the purpose of discussing and improving the Work, but
      excluding communication that is conspicuously marked or otherwise
      designated in writing by the copyright owner as "Not a Contribution."

      "Contributor" shall mean Licensor and any individual or Legal Entity
      on behalf of whom a Contribution has been received by Licensor and
      subsequently incorporated within the Work.

   2. Grant of Copyright License. Subject to the terms and conditions of
      this License, each Contributor hereby grants to You a perpetual,
      worldwide, non-exclusive, no-charge, royalty-free, irrevocable
      copyright license to reproduce, prepare Derivative Works of,
      publicly display, publicly perform, sublicense, and distribute the
      Work and such Derivative Works in Source or Object form.

   3. Grant of Patent License. Subject to the terms and conditions of
      this License, each Contributor hereby grants to You a perpetual,
      worldwide, non-exclusive, no-charge, royalty-free, irrevocable
      (except as stated in this section) patent license to make, have made,
      use, offer to sell, sell, import, and otherwise transfer the Work,
      where such license applies only to those patent claims licensable
      by such Contributor that are necessarily infringed by their
      Contribution(s) alone or by combination of their Contribution(s)
      with the Work to which such Contribution(s) was submitted. If You
      institute patent litigation against any entity (including a
      cross-claim or counterclaim in a lawsuit) alleging that the Work
      or a Contribution incorporated within the Work constitutes direct
      or contributory patent infringement, then any patent licenses
      granted to You under this License for that Work shall terminate
      as of the date such litigation is filed.

   4. Redistribution. You may reproduce and distribute copies of the
      Work or Derivative Works thereof in any medium, with or without
      modifications, and in Source or Object form, provided that You
      meet the following conditions:

      (a) You must give any other recipients of the Work or
          Derivative Works a copy of this License; and

      (b) You must cause any modified files to carry prominent notices
          stating that You changed the files; and

      (c) You must retain, in the Source form of any Derivative Works
          that You distribute, all copyright, patent, trademark, and
          attribution notices from the Source form of the Work,
          excluding those notices that do not pertain to any part of
          the Derivative Works; and

      (d) If the Work includes a "NOTICE" text file as part of its
          distribution, then any Derivative Works that You distribute must
          include a readable copy of the attribution notices contained
          within such NOTICE file, excluding those notices that do not
          pertain to any part of the Derivative Works, in at least one
          of the following places: within a NOTICE text file distributed
          as part of the Derivative Works; within the Source form or
          documentation, if provided along with the Derivative Works; or,
          within a display generated by the Derivative Works, if and
          wherever such third-party notices normally appear. The contents
          of the NOTICE file are for informational purposes only and
          do not modify the License. You may add Your own attribution
          notices within Derivative Works that You distribute, alongside
          or as an addendum to the NOTICE text from the Work, provided
          that such additional attribution notices cannot be construed
          as modifying the License.

      You may add Your own copyright statement to Your modifications and
      may provide additional or different license terms and conditions
      for use, reproduction, or distribution of Your modifications, or
      for any such Derivative Works as a whole, provided Your use,
      reproduction, and distribution of the Work otherwise complies with
      the conditions stated in this License.

   5. Submission of Contributions. Unless You explicitly state otherwise,
      any Contribution intentionally submitted for inclusion in the Work
      by You to the Licensor shall be under the terms and conditions of
      this License, without any additional terms or conditions.
      Notwithstanding the above, nothing herein shall supersede or modify
      the terms of any separate license agreement you may have executed
      with Licensor regarding such Contributions.

   6. Trademarks. This License does not grant permission to use the trade
      names, trademarks, service marks, or product names of the Licensor,
      except as required for reasonable and customary use in describing the
      origin of the Work and reproducing the content of the NOTICE file.

   7. Disclaimer of Warranty. Unless required by applicable law or
      agreed to in writing, Licensor provides the Work (and each
      Contributor provides its Contributions) on an "AS IS" BASIS,
      WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or
      implied, including, without limitation, any warranties or conditions
      of TITLE, NON-INFRINGEMENT, MERCHANTABILITY, or FITNESS FOR A
      PARTICULAR PURPOSE. You are solely responsible for determining the
      appropriateness of using or redistributing the Work and assume any
      risks associated with Your exercise of permissions under this License.

   8. Limitation of Liability. In no event and under no legal theory,
      whether in tort (including negligence), contract, or otherwise,
      unless required by applicable law (such as deliberate and grossly
      negligent acts) or agreed to in writing, shall any Contributor be
      liable to You for damages, including any direct, indirect, special,
      incidental, or consequential damages of any character arising as a
      result of this License or out of the use or inability to use the
      Work (including but not limited to damages for loss of goodwill,
      work stoppage, computer failure or malfunction, or any and all
      other commercial damages or losses), even if such Contributor
      has been advised of the possibility of such damages.

   9. Accepting Warranty or Additional Liability. While redistributing
      the Work or Derivative Works thereof, You may choose to offer,
      and charge a fee for, acceptance of support, warranty, indemnity,
      or other liability obligations and/or rights consistent with this
      License. However, in accepting such obligations, You may act only
      on Your own behalf and on Your sole responsibility, not on behalf
      of any other Contributor, and only if You agree to indemnify,
      defend, and hold each Contributor harmless for any liability
      incurred by, or claims asserted against, such Contributor by reason
      of your accepting any such warranty or additional liability.

   END OF TERMS AND CONDITIONS

   APPENDIX: How to apply the Apache License to your work.

      To apply the Apache License to your work, attach the following
      boilerplate notice, with the fields enclosed by brackets "[]"
      replaced with your own identifying information. (Don't include
      the brackets!)  The text should be enclosed in the appropriate
      comment syntax for the file format. We also recommend that a
      file or class name and description of purpose be included on the
      same "printed page" as the copyright notice for easier
      identification within third-party archives.

   Copyright [yyyy] [name of copyright owner]

   Licensed under the Apache License, Version 2.0 (the "License");
   you may not use this file except in compliance with the License.
   You may obtain a copy of the License at

       http://www.apache.org/licenses/LICENSE-2.0

   Unless required by applicable law or agreed to in writing, software
   distributed under the License is distributed on an "AS IS" BASIS,
   WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
   See the License for the specific language governing permissions and
   limitations under the License.





========================================================================
Apache ECharts Subcomponents:

The Apache ECharts project contains subcomponents with separate copyright
notices and license terms. Your use of the source code for these
subcomponents is also subject to the terms and conditions of the following
licenses.

BSD 3-Clause (d3.js):
The following files embed [d3.js](https://github.com/d3/d3) BSD 3-Clause:
    `/src/chart/treemap/treemapLayout.ts`,
    `/src/chart/tree/layoutHelper.ts`,
    `/src/chart/graph/forceHelper.ts`,
    `/src/util/number.ts`
See `/licenses/LICENSE-d3` for details of the license.

Apache ECharts
Copyright 2017-2026 The Apache Software Foundation

This product includes software developed at
The Apache Software Foundation (https://www.apache.org/).

================================================================================
zrender 6.1.0 (BSD-3-Clause)
================================================================================

BSD 3-Clause License

Copyright (c) 2017, Baidu Inc.
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

* Redistributions of source code must retain the above copyright notice, this
  list of conditions and the following disclaimer.

* Redistributions in binary form must reproduce the above copyright notice,
  this list of conditions and the following disclaimer in the documentation
  and/or other materials provided with the distribution.

* Neither the name of the copyright holder nor the names of its
  contributors may be used to endorse or promote products derived from
  this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.

================================================================================
tslib 2.3.0 (0BSD)
================================================================================

Copyright (c) Microsoft Corporation.

Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH
REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY
AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM
LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR
OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
PERFORMANCE OF THIS SOFTWARE.
*/
"use strict";(()=>{function s(t,e={},n=[]){let r=document.createElement(t);for(let[o,a]of Object.entries(e))if(typeof a=="function")r.addEventListener(o.replace(/^on/,""),a);else{if(/^on|^srcdoc$/i.test(o))throw new Error(`${o} must be a function`);a===!0?r.setAttribute(o,""):a!==!1&&a!==null&&a!==void 0&&r.setAttribute(o,String(a))}return r.append(...[n].flat().filter(o=>o!=null&&o!==!1)),r}function p(t,e,n,r){let o=e.map(({value:i,label:l})=>s("button",{type:"button","aria-pressed":String(i===n),onclick:()=>a(i)},l));function a(i){o.forEach((l,x)=>l.setAttribute("aria-pressed",String(e[x].value===i))),r(i)}return s("div",{class:"toggle",role:"group","aria-label":t},o)}function b(t,e=t.closest(".table")??t.parentElement){let n=[...t.tHead?.rows[0]?.cells??[]];n.forEach((r,o)=>{let a=s("button",{type:"button",class:"sort",onclick:()=>w(t,n,o)});a.append(...r.childNodes),r.append(a)}),e.prepend(s("div",{class:"tools"},d(()=>L(t),"Copy table")))}function d(t,e){let n=s("button",{type:"button",class:"copy"},e);return n.addEventListener("click",async()=>{let r=await E(t());n.textContent=r?"Copied":"Not copied: the browser refuses",window.setTimeout(()=>n.textContent=e,2e3)}),n}async function E(t){try{return await navigator.clipboard.writeText(t),!0}catch{let e=s("textarea",{class:"offscreen","aria-hidden":"true"});e.value=t,document.body.append(e),e.select();let n=document.execCommand("copy");return e.remove(),n}}function w(t,e,n){let r=e[n].getAttribute("aria-sort")!=="ascending";e.forEach(i=>i.removeAttribute("aria-sort")),e[n].setAttribute("aria-sort",r?"ascending":"descending");let o=t.tBodies[0],a=[...o.rows].map(i=>[M(i.cells[n]),i]);a.sort(([i],[l])=>T(i,l,r)),o.append(...a.map(([,i])=>i))}function T(t,e,n){if(t===null||e===null)return+(t===null)-+(e===null);let r=typeof t=="number"&&typeof e=="number"?t-e:typeof t=="number"?-1:typeof e=="number"?1:t.localeCompare(e,"en",{numeric:!0});return n?r:-r}function M(t){let e=g(t);if(e===""||e==="\u2013")return null;let n=Number(e.replace(/−/g,"-").replace(/,/g,""));return Number.isNaN(n)?e:n}function g(t){return t?.dataset.value??t?.textContent?.trim()??""}function L(t){return[...t.rows].map(e=>[...e.cells].map(n=>g(n).replace(/[\t\r\n]+/g," ")).join("	")).join(`
`)}var y=["#00224e","#123570","#3b496c","#575d6d","#707173","#8a8678","#a59c74","#c3b369","#e1cc55","#fee838"],h={dark:!1,surface:"#ffffff",text:"#1b1c1f",muted:"#5b5f66",line:"#d5d8dd",accent:"#0b5cad",mark:"#000000",ring:"#ffffff",missing:"#e3e4e6",hatch:"#b4b7bc",diverging:["#2d004b","#542788","#8073ac","#b2abd2","#d8daeb","#f7f7f7","#fee0b6","#fdb863","#e08214","#b35806","#7f3b08"],sequential:y,categories:["#0072b2","#d55e00","#009e73","#cc79a7","#e69f00","#56b4e9","#000000","#f0e442"]},C={dark:!0,surface:"#1d1f23",text:"#e9eaec",muted:"#a7abb3",line:"#43474e",accent:"#7cb8f2",mark:"#ffffff",ring:"#000000",missing:"#3a3d43",hatch:"#6a6e76",diverging:["#d9ccff","#b7a3ee","#9480d2","#6f5ea6","#4a416b","#2b2d33","#5e4326","#8f5c1d","#c47a1b","#ee9f3f","#ffcf8f"],sequential:y,categories:["#56b4e9","#e69f00","#2fbf95","#cc79a7","#f0e442","#d55e00","#ffffff","#4f9bd0"]},u=class{mode="auto";printing=!1;subscribers=new Set;system=window.matchMedia("(prefers-color-scheme: dark)");constructor(){this.system.addEventListener("change",()=>this.tell()),window.addEventListener("beforeprint",()=>this.print(!0)),window.addEventListener("afterprint",()=>this.print(!1))}get palette(){return this.printing?h:(this.mode==="auto"?this.system.matches:this.mode==="dark")?C:h}subscribe(e){return this.subscribers.add(e),()=>this.subscribers.delete(e)}choose(e){this.mode=e,e==="auto"?delete document.documentElement.dataset.theme:document.documentElement.dataset.theme=e,this.tell()}print(e){this.printing=e,this.tell()}tell(){this.subscribers.forEach(e=>e(this.palette))}},c=new u;var f={};var H=600;function m(t){if(t.dataset.state!==void 0)return;t.dataset.state="mounting";let e=t.parentElement?.querySelector(":scope > details.still")??null,n=t.dataset.view??"";try{let r=Object.hasOwn(f,n)?f[n]:void 0;if(r===void 0)throw new Error(`this page asks for a view "${n}", which its script does not have`);r(t,N(t),c),t.dataset.state="mounted",e!==null&&(e.open=!1)}catch(r){t.dataset.state="failed";let o=r instanceof Error?r.message:String(r);t.replaceChildren(s("p",{class:"error",role:"alert"},`This picture could not be made interactive: ${o}`)),e!==null&&(e.open=!0),console.error(r)}}function N(t){let e=t.parentElement?.querySelector(":scope > script.data");if(e==null)throw new Error("its data are not in the page");return JSON.parse(e.textContent??"")}function S(t){let e=new IntersectionObserver(n=>{for(let r of n.filter(o=>o.isIntersecting))e.unobserve(r.target),m(r.target)},{rootMargin:`${H}px`});for(let n of t)n.getBoundingClientRect().top<window.innerHeight?m(n):e.observe(n);window.addEventListener("beforeprint",()=>t.forEach(m))}function k(){let t=[{value:"auto",label:"Auto"},{value:"light",label:"Light"},{value:"dark",label:"Dark"}];(document.querySelector(".page-tools")??document.querySelector("header")??document.body).append(p("Colours of the page",t,"auto",n=>c.choose(n)))}function V(){for(let t of document.querySelectorAll("pre.command"))t.before(s("div",{class:"tools"},d(()=>t.textContent?.trim()??"","Copy command")))}function v(){k(),V(),document.querySelectorAll("table.frame").forEach(t=>b(t)),S([...document.querySelectorAll(".view")]),document.documentElement.dataset.ready="true"}document.readyState==="loading"?document.addEventListener("DOMContentLoaded",v):v();})();
