// One item: what was asked, what is right, and what each model answered; a proof step by step.

import { element, select } from "../../dom";
import { counted, plain, visible, words } from "../../text";
import type { Item, Response, ResponsesData, Step } from "./data";

/** What a verdict on a step means: its mark, and why it is so. */
const VERDICTS: Readonly<Record<string, { mark: string; why: string; kind: string }>> = {
  correct: { mark: "✓", why: "follows in one step", kind: "right" },
  skip: { mark: "≈", why: "follows by two rules at once: valid, and not strict", kind: "partly" },
  "non-atomic": { mark: "≈", why: "follows in more than one step, or from what was not said: valid, and not strict", kind: "partly" },
  useless: { mark: "○", why: "follows, but the conclusion does not rest on it", kind: "partly" },
  invalid: { mark: "✗", why: "does not follow from the question and the steps before", kind: "wrong" },
  unparseable: { mark: "?", why: "cannot be read: it is not of the controlled English", kind: "wrong" },
};

const KINDS: Readonly<Record<string, string>> = {
  axiom: "it stands in the question",
  assumption: "it is assumed",
  repetition: "it was shown before",
  contradiction: "it contradicts what was shown",
};

/** Show an item with the answers of one evaluation, of which others can be chosen. */
export function showItem(place: HTMLElement, data: ResponsesData, item: Item, evaluation: number, close: () => void): void {
  const name = (i: number): string => plain(data.asked[i].name, 60);
  const answers = element("div");
  const fill = (chosen: number): void => {
    const found = item.responses[chosen];
    answers.replaceChildren(
      ...(found.length === 0 ? [element("p", { class: "muted" }, `${name(chosen)} was not asked this.`)] : found.map((response) => answer(data, response, found.length > 1))),
    );
  };
  fill(evaluation);
  place.replaceChildren(element("div", { class: "examples", role: "region", "aria-label": `Item ${plain(item.key, 80)}`, tabindex: -1 }, [
    element("div", { class: "controls" }, [
      element("h4", {}, `Item ${plain(item.key, 80)}`),
      element("button", { type: "button", onclick: close }, "Close"),
    ]),
    element("h5", {}, "Question"),
    text(item.question),
    element("h5", {}, "Right answer"),
    text(item.gold),
    data.asked.length > 1
      ? element("div", { class: "controls" }, select("Answer of", data.asked.map((_, i) => ({ value: i, label: name(i) })), evaluation, fill))
      : element("h5", {}, `Answer of ${name(0)}`),
    answers,
  ]));
}

function answer(data: ResponsesData, response: Response, several: boolean): HTMLElement {
  const judged = data.judges.flatMap((judge, i) => {
    const right = response.right[i];
    return right === null ? [] : [element("li", {}, [badge(right ? "✓" : "✗", right ? "right" : "wrong"), ` ${words(judge)}: ${right ? "right" : "wrong"}`])];
  });
  return element("div", { class: "answer" }, [
    several && element("p", { class: "muted" }, response.which),
    element("ul", { class: "legend" }, [
      ...judged,
      element("li", {}, response.said === null ? "no answer could be read" : ["read: ", element("q", { class: "said" }, plain(response.said, 200))]),
      element("li", {}, `${counted(response.n_tokens, "token")}${response.truncated ? ", broken off" : ""}`),
    ]),
    response.steps === null || response.steps.length === 0 ? text(response.text) : proof(response.steps),
    response.left_out > 0 && element("p", { class: "muted" }, `… and ${counted(response.left_out, "step")} more`),
    response.steps !== null && response.steps.length > 0 && element("details", {}, [element("summary", {}, "The response as it was written"), text(response.text)]),
  ]);
}

function proof(steps: readonly Step[]): HTMLElement {
  return element("ol", { class: "proof" }, runs(steps).map(({ step: [said, verdict, kind, open, concludes], times }) => {
    const { mark, why, kind: look } = VERDICTS[verdict] ?? { mark: "?", why: "", kind: "partly" };
    const how = verdict === "correct" ? KINDS[kind] ?? `by ${words(kind)}` : why;
    const more = [how, times > 1 && `said ${times} times on end`, open > 0 && `rests on ${counted(open, "open assumption")}`, concludes && "this is what was to be proved"].filter(Boolean).join("; ");
    return element("li", {}, [
      element("span", { class: "data-text" }, visible(said)),
      element("span", { class: "verdict-of-step" }, [badge(mark, look), ` ${verdict}: ${more}`]),
    ]);
  }));
}

/** Steps, what is said again and again on end as one. */
function runs(steps: readonly Step[]): { step: Step; times: number }[] {
  const found: { step: Step; times: number }[] = [];
  for (const step of steps) {
    const last = found[found.length - 1];
    if (last !== undefined && last.step.every((part, i) => part === step[i])) last.times += 1;
    else found.push({ step, times: 1 });
  }
  return found;
}

export function badge(mark: string, kind: string): HTMLElement {
  return element("span", { class: `badge ${kind}`, "aria-hidden": "true" }, mark);
}

/** A text that models wrote or read, as it is: its spaces and breaks kept, its direction its own. */
export function text(content: string): HTMLElement {
  if (content === "") return element("p", { class: "muted" }, "(nothing)");
  return element("pre", { class: "data-text", tabindex: 0 }, visible(content));
}
