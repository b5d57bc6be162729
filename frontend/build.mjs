// Bundles the front end into the Python package: one script, one stylesheet, and the licences of what is in them.
//   npm run build            into src/circuitkit/report/assets
//   npm run build -- FOLDER  elsewhere, as where CI compares a fresh build with what is committed
import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "../src/circuitkit/report/assets"));

// What esbuild puts into the bundle, and the files of each that must go with it.
const BUNDLED = { echarts: ["LICENSE", "NOTICE"], zrender: ["LICENSE"], tslib: ["LICENSE.txt"] };

async function licences() {
  const parts = [];
  for (const [name, files] of Object.entries(BUNDLED)) {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    parts.push(`${"=".repeat(80)}\n${name} ${version} (${license})\n${"=".repeat(80)}`);
    for (const file of files) parts.push((await readFile(join(folder, file), "utf8")).trim());
  }
  return `The script of a report holds these libraries, under these licences.\n\n${parts.join("\n\n")}\n`;
}

async function bundled(entry, options) {
  const { outputFiles, metafile } = await build({
    entryPoints: [join(here, entry)],
    absWorkingDir: here,
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    charset: "ascii",
    legalComments: "none",
    logLevel: "warning",
    ...options,
  });
  return { text: outputFiles[0].text, inputs: Object.keys(metafile.inputs) };
}

const script = await bundled("src/main.ts", { format: "iife", target: "es2022", define: { "process.env.NODE_ENV": '"production"' } });
const style = await bundled("src/style.css", { charset: "utf8" });
const notices = await licences();

for (const input of script.inputs) {
  // Prompts and responses are data. What would read them as code, or as elements, has no place in our sources.
  const risky = input.startsWith("src/") && /\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function)/.exec(await readFile(join(here, input), "utf8"));
  if (risky) throw new Error(`${input} uses ${risky[1]}: make elements with dom.ts`);
  const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1];
  if (name !== undefined && !(name in BUNDLED)) throw new Error(`${name} is in the bundle: add its licence to BUNDLED`);
}
if (notices.includes("*/")) throw new Error("a licence would end the comment that it is in");
// The page is sent round without the package, so the licences go with the script. Nothing in it may end its element.
const report = `/*\n${notices}*/\n${script.text}`;
for (const [name, text, ending] of [["script", report, /<\/script|<!--/i], ["stylesheet", style.text, /<\/style|<!--/i]]) {
  const found = ending.exec(text);
  if (found !== null) throw new Error(`the ${name} holds ${found[0]}, which would break the page that it is put into`);
}

await mkdir(out, { recursive: true });
await Promise.all([
  writeFile(join(out, "report.js"), report),
  writeFile(join(out, "report.css"), style.text),
  writeFile(join(out, "LICENSES.txt"), notices),
]);
console.log(`${out}: report.js ${Math.round(report.length / 1024)} KiB, report.css ${Math.round(style.text.length / 1024)} KiB`);
