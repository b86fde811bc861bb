// Requests to the gateway, typed by its own description (schema.d.ts is made of /openapi.json).
// The browser keeps the log-in as a cookie that no script can read.
import type { paths } from "../../schema";
import { texts } from "./i18n.ts";
import { told } from "./told.ts";

type Method = "get" | "post" | "put" | "patch" | "delete";
type PathOf<M extends Method> = { [P in keyof paths]: paths[P][M] extends { responses: unknown } ? P : never }[keyof paths];
type Operation<P extends keyof paths, M extends Method> = paths[P][M];
type Content<T> = T extends { content: { "application/json": infer J } } ? J : undefined;
type Good<R> = R extends { 200: infer A } ? Content<A> : R extends { 201: infer A } ? Content<A> : R extends { 202: infer A } ? Content<A> : undefined;

/** What an operation answers with when all is well. */
export type Answer<P extends keyof paths, M extends Method = "get"> = Operation<P, M> extends { responses: infer R } ? Good<R> : never;
/** One of the items that a list answers with. */
export type Item<P extends PathOf<"get">> = Answer<P> extends { items: (infer I)[] } ? I : never;
/** What is sent to an operation. */
export type Body<P extends keyof paths, M extends Method> = Operation<P, M> extends { requestBody?: infer B | undefined }
  ? Content<NonNullable<B>>
  : undefined;

export type Query = Readonly<Record<string, string | number | boolean | null | undefined>>;
export type Params = Readonly<Record<string, string | number>>;
export interface Ask {
  params?: Params;
  query?: Query;
  body?: unknown;
  signal?: AbortSignal;
}

/** The gateway refused, in its own words (RFC 9457); or it could not be reached: `status` 0. */
export class Refused extends Error {
  readonly status: number;
  readonly problem: { errors?: { where: string; what: string }[]; [key: string]: unknown };
  /** When to come again, s; 0 where the gateway does not say. */
  readonly retry_s: number;
  constructor(status: number, message: string, problem: Refused["problem"] = {}, retry_s = 0) {
    super(message);
    this.status = status;
    this.problem = problem;
    this.retry_s = retry_s;
  }
}

/** The address of an operation, with its parameters filled in and those of the query that are set. */
export function url(path: string, { params = {}, query = {} }: Ask = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params[name] ?? "")));
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") asked.set(name, String(value));
  }
  const text = asked.toString();
  return text ? `${filled}?${text}` : filled;
}

const say = texts({ en: { away: "no connection", late: "no answer in time" }, es: { away: "sin conexión", late: "sin respuesta a tiempo" } });
const TIMEOUT_MS = 30_000;
let whenLoggedOut = (): void => undefined;
let whenForbidden = (): void => undefined;

/** Who is told when the gateway does not know us any more. */
export function onLoggedOut(told: () => void): void {
  whenLoggedOut = told;
}

/** Who is told when the gateway refused what our role is not enough for. */
export function onForbidden(told: () => void): void {
  whenForbidden = told;
}

export async function fetchAnswer(method: string, path: string, ask: Ask = {}): Promise<Response> {
  const headers: Record<string, string> = { "x-enlace-csrf": "1", accept: "application/json" };
  if (ask.body !== undefined) headers["content-type"] = "application/json";
  const signal = ask.signal ?? AbortSignal.timeout(TIMEOUT_MS);
  const init: RequestInit = { method, headers, signal };
  if (ask.body !== undefined) init.body = JSON.stringify(ask.body);
  let answer: Response;
  try {
    answer = await fetch(url(path, ask), init);
  } catch (error) {
    if (signal.aborted && signal.reason?.name === "TimeoutError") throw new Refused(0, say("late"));
    if (signal.aborted) throw error;
    throw new Refused(0, say("away"));
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401) whenLoggedOut();
  if (answer.status === 403) whenForbidden();
  throw new Refused(answer.status, told(problem.detail || problem.title) || `HTTP ${answer.status}`, problem, Number(answer.headers.get("retry-after")) || 0);
}

async function call(method: string, path: string, ask: Ask): Promise<unknown> {
  const answer = await fetchAnswer(method.toUpperCase(), path, ask);
  return answer.status === 204 ? undefined : answer.json();
}

export const get = <P extends PathOf<"get">>(path: P, ask: Ask = {}): Promise<Answer<P, "get">> =>
  call("get", path, ask) as Promise<Answer<P, "get">>;
type Sent<P extends keyof paths, M extends Method> = Omit<Ask, "body"> & { body?: Body<P, M> };
export const post = <P extends PathOf<"post">>(path: P, ask: Sent<P, "post"> = {}): Promise<Answer<P, "post">> =>
  call("post", path, ask) as Promise<Answer<P, "post">>;
export const put = <P extends PathOf<"put">>(path: P, ask: Sent<P, "put"> = {}): Promise<Answer<P, "put">> =>
  call("put", path, ask) as Promise<Answer<P, "put">>;
export const patch = <P extends PathOf<"patch">>(path: P, ask: Sent<P, "patch"> = {}): Promise<Answer<P, "patch">> =>
  call("patch", path, ask) as Promise<Answer<P, "patch">>;
export const del = <P extends PathOf<"delete">>(path: P, ask: Ask = {}): Promise<Answer<P, "delete">> =>
  call("delete", path, ask) as Promise<Answer<P, "delete">>;

/** Ask for a file and hand it to the browser's downloads. */
export async function download(method: "GET" | "POST", path: string, ask: Ask = {}): Promise<void> {
  const answer = await fetchAnswer(method, path, { ...ask, signal: ask.signal ?? AbortSignal.timeout(20 * TIMEOUT_MS) });
  const named = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = named?.[1] ?? path.split("/").pop() ?? "enlace";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), TIMEOUT_MS);
}
