// Answers that are asked for again and again. Several components that ask the same share one request and one answer.
//
// An answer is asked for when the component comes, each `every_s`, when something happened (`live.news`), when the connection
// comes back, and by `refresh()` after a command; never while the page is hidden.
import { useEffect, useMemo, useState } from "preact/hooks";
import { type Answer, type Ask, Refused, get, url } from "./api.ts";
import { link, news } from "./live.ts";

export interface Asked<T> {
  data: T | undefined;
  /** Why the newest request failed; `data` is then what was heard before. */
  error: Refused | undefined;
  refresh: () => Promise<void>;
}

class Question {
  readonly users = new Map<() => void, number>();
  data: unknown;
  error: Refused | undefined;
  private asking: Promise<void> | undefined;
  private again = false;
  private asked = 0;
  private readonly key: string;

  constructor(key: string) {
    this.key = key;
  }

  get due(): boolean {
    const every_s = Math.min(...this.users.values());
    return performance.now() - this.asked >= every_s * 1000;
  }

  ask(): Promise<void> {
    if (this.asking) {
      this.again = true; // what is under way may have been answered before what it is asked for now happened
      return this.asking;
    }
    this.asked = performance.now();
    this.asking = this.look().finally(() => {
      this.asking = undefined;
      if (!this.again) return;
      this.again = false;
      void this.ask();
    });
    return this.asking;
  }

  private async look(): Promise<void> {
    try {
      const data: unknown = await get(this.key as never, {});
      if (JSON.stringify(data) !== JSON.stringify(this.data)) this.data = data;
      this.error = undefined;
    } catch (error) {
      this.error = error instanceof Refused ? error : new Refused(0, String(error));
    }
    for (const tell of [...this.users.keys()]) tell();
  }
}

const questions = new Map<string, Question>();
const KEPT_MS = 60_000;

function askAll(which: (one: Question) => boolean): void {
  if (globalThis.document?.hidden) return;
  for (const question of questions.values()) if (question.users.size && which(question)) void question.ask();
}

if (globalThis.document) {
  setInterval(() => askAll((one) => one.due), 1_000);
  news.listen(() => askAll(() => true));
  link.listen(() => link.value === "live" && askAll(() => true));
  document.addEventListener("visibilitychange", () => askAll(() => true));
}

/** Forget all answers: somebody else may log in. */
export function forget(): void {
  for (const question of questions.values()) question.data = question.error = undefined;
}

/** Ask all that is shown again, as after a command. */
export function refreshAll(): void {
  askAll(() => true);
}

/** What the path answers; asked each `every_s` at the latest. `null` as the path: nothing is asked. */
export function useAsk<P extends Parameters<typeof get>[0]>(path: P | null, ask: Ask = {}, every_s = 10): Asked<Answer<P>> {
  const key = path === null ? "" : url(path, ask);
  const [, again] = useState(0);
  const question = useMemo(() => {
    if (!key) return undefined;
    const found = questions.get(key) ?? new Question(key);
    questions.set(key, found);
    return found;
  }, [key]);
  useEffect(() => {
    if (!question) return undefined;
    const tell = (): void => again((count) => count + 1);
    question.users.set(tell, every_s);
    void question.ask();
    return () => {
      question.users.delete(tell);
      setTimeout(() => !question.users.size && questions.delete(key), KEPT_MS);
    };
  }, [question, every_s]);
  return {
    data: question?.data as Answer<P> | undefined,
    error: question?.error,
    refresh: () => question?.ask() ?? Promise.resolve(),
  };
}
