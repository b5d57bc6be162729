// Several pictures of one kind, of which one is chosen: each is made when it is asked for first, and keeps its state.

import { element, failed, select } from "../dom";
import { plain } from "../text";
import type { Theme } from "../theme";
import { views } from "./index";

export interface ChoiceData {
  label: string;
  choices: readonly { name: string; title: string; caption: string | null; view: string; data: unknown }[];
}

export function choiceView(place: HTMLElement, { label, choices }: ChoiceData, theme: Theme): void {
  if (choices.length === 0) throw new Error("there is nothing to choose from");
  const places = choices.map(() => element("div", { hidden: true }));
  const heading = element("h4", {});
  const caption = element("p", { class: "caption" });
  const show = (chosen: number): void => {
    places.forEach((each, i) => (each.hidden = i !== chosen));
    heading.textContent = plain(choices[chosen].title, 120);
    caption.textContent = choices[chosen].caption ?? "";
    caption.hidden = caption.textContent === "";
    if (places[chosen].childElementCount > 0) return;
    try {
      views[choices[chosen].view](places[chosen], choices[chosen].data, theme);
    } catch (error) {
      failed(places[chosen], error);
    }
  };
  place.append(
    element("div", { class: "controls" }, select(label, choices.map(({ name }, value) => ({ value, label: plain(name, 60) })), 0, show)),
    heading,
    caption,
    ...places,
  );
  show(0);
}
