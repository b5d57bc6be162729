// Elements, made without ever reading text as HTML: prompts, tokens and responses may hold anything.

export type Child = Node | string | null | undefined | false;
type Handler = (event: Event) => void;
export type Attributes = Record<string, string | number | boolean | null | undefined | Handler>;

/**
 * Make an element. Strings among its children are text; an attribute that is a function, such as `onclick`, listens;
 * `true` sets an attribute without a value, and `false`, `null` and `undefined` leave it out.
 */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  children: Child | readonly Child[] = [],
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.replace(/^on/, ""), value);
    // A listener given as text would be code made of data; so would a document.
    else if (/^on|^srcdoc$/i.test(name)) throw new Error(`${name} must be a function`);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...[children].flat().filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
  return made;
}

/** Put children in the place of those that an element has. */
export function refill(place: Element, ...children: Child[]): void {
  place.replaceChildren(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
}

export interface Choice<Value> {
  value: Value;
  label: string;
}

/** A labelled drop-down of a few choices; `onChange` gets the chosen value. */
export function select<Value>(
  label: string,
  choices: readonly Choice<Value>[],
  chosen: Value,
  onChange: (value: Value) => void,
): HTMLLabelElement {
  const box = element("select", { onchange: () => onChange(choices[box.selectedIndex].value) }, choices.map(({ value, label }) =>
    element("option", { selected: value === chosen }, label),
  ));
  return element("label", { class: "control" }, [`${label} `, box]);
}

/** Buttons of which one is pressed: a switch between a few views of the same thing. */
export function toggle<Value>(
  label: string,
  choices: readonly Choice<Value>[],
  chosen: Value,
  onChange: (value: Value) => void,
): HTMLElement {
  const buttons = choices.map(({ value, label }) =>
    element("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => press(value) }, label),
  );
  function press(value: Value): void {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(choices[i].value === value)));
    onChange(value);
  }
  return element("div", { class: "toggle", role: "group", "aria-label": label }, buttons);
}

/** A labelled slider over whole numbers; `tell` puts the value into words, for the eye and for a screen reader. */
export function slider(
  label: string,
  range: { min: number; max: number; value: number; step?: number },
  tell: (value: number) => string,
  onChange: (value: number) => void,
): HTMLLabelElement {
  const said = element("output", {}, tell(range.value));
  const input = element("input", { type: "range", step: 1, ...range, "aria-valuetext": tell(range.value), oninput: moved });
  function moved(): void {
    const value = Number(input.value);
    said.textContent = tell(value);
    input.setAttribute("aria-valuetext", tell(value));
    onChange(value);
  }
  return element("label", { class: "control slider" }, [element("span", {}, label), input, said]);
}

/** Say in a picture's place why it could not be made. */
export function failed(place: HTMLElement, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  place.replaceChildren(element("p", { class: "error", role: "alert" }, `This picture could not be made interactive: ${message}`));
  console.error(error);
}
