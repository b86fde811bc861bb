// The gateway's own sentences in the reader's language.
//
// The gateway speaks English, everywhere. What it says is a template with its fields filled in, so the page knows a sentence
// again by the template and says the Spanish one with the same fields. `agent/web/said.py` lists the templates of the code,
// and a test fails where `said/es.json` lacks one.
//
// 1. A field is translated like a sentence of its own; what is no sentence of ours (a name, an address, what somebody typed)
//    stays. Formatted numbers and times become those of the language and of the site.
// 2. The template with most words of its own goes first. One with a single word fits a piece of ours only: what people wrote
//    has fields of several words that nobody knows.
// 3. Sentences that were put together ("a; b", "what: why (what to do)") are taken apart, where more of them is known so.
// 4. What nobody knows is shown as it came; so is what is long, and what would take long to look through.

/** English templates and their Spanish ones; `{name}` is a field, `{name:n}` a formatted number. */
export type Catalogue = Readonly<Record<string, string>>;
/** How a field is shown that is no sentence: `undefined` leaves it to the next. */
export interface Shows {
  number: (text: string) => string;
  word: (text: string) => string | undefined;
}

interface Template {
  /** Its longest piece of text: who lacks it can't match. */
  head: string;
  /** Its pieces of text, in their order. */
  pieces: readonly string[];
  /** How much of it is text. */
  own: number;
  pattern: RegExp;
  fields: readonly { name: string; figure: boolean }[];
  spanish: string;
  single: boolean;
}

/** What was made of a text, and how much of it is known. */
interface Said {
  text: string;
  own: number;
}

const FIELD = /\{(\w+)(:n)?\}|\{[^{}]*\}|%[sd]/g;
const FIGURE = "([-+]?\\d[\\d,]*(?:\\.\\d+)?(?:e[-+]?\\d+)?%?|nan|-?inf)";
const TIMES = /\d{4}-\d\d-\d\dT\d\d/;
/** A decimal with its unit, or one of a row of them. */
const QUANTITY = /(?<![\w.])[-+]?\d+\.\d+(?=(?: \/ [-+]?\d+(?:\.\d+)?)* (?:k?Wh?|k?V?A|V|°C|degc|%|s|min|h|Hz|kW)(?![\w]))/g;
const KEPT = 3000;
const DEEPEST = 6;
/** Of the gateway's own, a page of a text is the longest; with more it is data. */
const LONGEST = 1000;
/** A sentence that was put together is ours by a third at least. */
const LEAST_OWN = 3;
/** So many pieces of one sentence are looked at. */
const MOST_LOOKS = 150;
const JOINTS = ["\n", "; ", " (", ": ", ". ", ", "] as const;

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function compile(english: string, spanish: string): Template {
  const fields: { name: string; figure: boolean }[] = [];
  const texts: string[] = [];
  let pattern = "";
  let at = 0;
  for (const found of english.matchAll(FIELD)) {
    texts.push(english.slice(at, found.index));
    at = found.index + found[0].length;
    const figure = found[2] !== undefined;
    pattern += escaped(texts.at(-1)!) + (figure ? FIGURE : "(.*?)");
    fields.push({ name: found[1] ?? "", figure });
  }
  texts.push(english.slice(at));
  pattern += escaped(texts.at(-1)!);
  const head = texts.reduce((longest, one) => (one.length > longest.length ? one : longest), "");
  return { head, pieces: texts, own: texts.join("").length, pattern: new RegExp(`^${pattern}$`, "s"), fields, spanish, single: texts.join(" ").match(/[A-Za-z][A-Za-z']+/g)?.length === 1 };
}

/** Whether a text has all of these pieces, in order. Where one is missing the pattern would try all places of the others. */
function holds(text: string, pieces: readonly string[]): boolean {
  let at = pieces[0]!.length;
  if (!text.startsWith(pieces[0]!)) return false;
  for (const piece of pieces.slice(1, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return text.length - pieces.at(-1)!.length >= at && text.endsWith(pieces.at(-1)!);
}

/** What says the gateway's sentences in the language of a catalogue. */
export function translator(catalogue: Catalogue, shows: Shows): (text: string) => string {
  const exact = new Map<string, string>();
  const templates: Template[] = [];
  for (const [english, spanish] of Object.entries(catalogue)) {
    if (english.search(FIELD) < 0) exact.set(english, spanish);
    else templates.push(compile(english, spanish));
  }
  templates.sort((one, other) => other.own - one.own);
  const kept = new Map<string, Said | undefined>();
  let looks = 0;

  function matched(text: string, depth: number): Said | undefined {
    if (++looks > MOST_LOOKS) return undefined;
    for (const one of templates) {
      if (one.own > text.length || !text.includes(one.head) || !holds(text, one.pieces)) continue;
      const found = one.pattern.exec(text);
      const said = found && filled(one, found, depth);
      if (said) return said;
    }
    return undefined;
  }

  function filled(one: Template, found: RegExpExecArray, depth: number): Said | undefined {
    const values = new Map<string, string>();
    let own = one.own;
    for (const [index, { name, figure }] of one.fields.entries()) {
      const came = found[index + 1]!;
      const said = figure ? { text: shows.number(came), own: came.length } : inner(came, depth + 1);
      if (one.single && !said && /[^\s\d_./:] [^\s\d_./:]/.test(came) && !/[\d_/]/.test(came)) return undefined;
      own += said?.own ?? 0;
      values.set(name, said?.text ?? came.replace(QUANTITY, shows.number));
    }
    return { text: one.spanish.replace(/\{(\w+)(?::n)?\}/g, (whole, name: string) => values.get(name) ?? whole), own };
  }

  /** A whole sentence, or its pieces; undefined: nothing of it is known. */
  function known(text: string, depth: number): Said | undefined {
    if (depth > DEEPEST || !/[A-Za-z]/.test(text)) return undefined;
    const plain = whole(text, depth); // depends on the depth: a word alone is a word of ours only inside a sentence
    if (plain) return plain;
    if (!TIMES.test(text) && kept.has(text)) return kept.get(text); // how a time is shown depends on the day
    const said = better(matched(text, depth), apart(text, depth));
    if (kept.size >= KEPT) kept.clear();
    if (looks <= MOST_LOOKS) kept.set(text, said);
    return said;
  }

  function whole(text: string, depth: number): Said | undefined {
    const said = exact.get(text) ?? (depth ? shows.word(text) : undefined);
    return said === undefined ? undefined : { text: said, own: text.length };
  }

  const better = (one: Said | undefined, other: Said | undefined): Said | undefined => (other && other.own > (one?.own ?? 0) ? other : one);

  function apart(text: string, depth: number): Said | undefined {
    let best: Said | undefined;
    const join = (left: string, joint: string, right: string, end: string): void => {
      const before = whole(left, depth + 1) ?? (end ? known(left, depth + 1) : matched(left, depth + 1));
      const after = known(right, depth + 1);
      if (before || after) best = better(best, { text: (before?.text ?? left) + joint + (after?.text ?? right) + end, own: (before?.own ?? 0) + (after?.own ?? 0) + (before && after ? joint.length : 0) });
    };
    if (text.endsWith(")") && text.includes(" (")) {
      const at = text.indexOf(" (");
      join(text.slice(0, at), " (", text.slice(at + 2, -1), ")");
    }
    for (const joint of JOINTS) {
      for (let at = text.indexOf(joint); at > 0 && looks <= MOST_LOOKS; at = text.indexOf(joint, at + 1)) join(text.slice(0, at), joint, text.slice(at + joint.length), "");
    }
    // Of a text of which so little is ours, nothing is: somebody typed it.
    return best && best.own * LEAST_OWN >= text.length ? best : undefined;
  }

  function inner(text: string, depth: number): Said | undefined {
    const bare = text.trim();
    const said = bare ? known(bare, depth) : undefined;
    return said && { text: text.replace(bare, () => said.text), own: said.own };
  }

  return (text) => {
    if (text.length > LONGEST) return text;
    looks = 0;
    return inner(text, 0)?.text ?? text;
  };
}
