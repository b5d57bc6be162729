// Numbers and tokens, written as the package's figures and sentences write them.

const LONGEST = 14;

/** A number to three significant digits, with a real minus sign; a dash where there is none. */
export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const short = size !== 0 && (size < 1e-4 || size >= 1e6) ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
  return short.replace(/-/g, "−");
}

/** A share as a percentage. */
export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const hundredfold = 100 * value;
  const places = Math.abs(hundredfold) < 1 && hundredfold !== 0 ? 1 : 0;
  return `${hundredfold.toFixed(places).replace("-", "−")}%`;
}

/** An interval, as "−0.1 to 0.3". */
export function interval(low: number | null | undefined, high: number | null | undefined): string {
  return `${number(low)} to ${number(high)}`;
}

/** A token so that it can be read: spaces, breaks and invisible characters visible, long ones cut. */
export function shown(token: string, longest = LONGEST): string {
  return plain(token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·"), longest);
}

/** A name in one line: long ones cut, and what would be invisible, or turn the writing round, written as its number. */
export function plain(text: string, longest: number): string {
  const letters = [...text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, asNumber)];
  return letters.length <= longest ? letters.join("") : `${letters.slice(0, longest - 1).join("")}…`;
}

/** A text of any length, its breaks and tabs kept, and what else would be invisible written as its number. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (hidden) => (hidden === "\n" || hidden === "\t" ? hidden : asNumber(hidden)));
}

function asNumber(letter: string): string {
  return `⟨U+${letter.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** A name out of code, such as `logit_difference`, in words. */
export function words(name: string): string {
  return name.replace(/_/g, " ");
}

/** A label with its first letter large, as all on buttons are. */
export function capital(label: string): string {
  return label.charAt(0).toUpperCase() + label.slice(1);
}

/** "1 example", "2 examples". */
export function counted(n: number, what: string): string {
  return `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
}
