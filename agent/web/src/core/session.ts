// Who looks at this page: nobody yet, somebody to log in, or a user with a role.
import { Refused, get, onForbidden, onLoggedOut, post } from "./api.ts";
import { forget } from "./ask.ts";
import { start, stop } from "./live.ts";
import { Store } from "./store.ts";

export type Role = "viewer" | "operator" | "admin";
const ROLES: readonly Role[] = ["viewer", "operator", "admin"];
export type Session =
  | { state: "asking" | "set-up" | "log-in" | "away" }
  | { state: "inside"; user: string; role: Role };

export const session = new Store<Session>({ state: "asking" });
const RETRY_MS = 3_000;

/** Whether the user may do what needs that role. */
export function may(role: Role): boolean {
  const now = session.value;
  return now.state === "inside" && ROLES.indexOf(now.role) >= ROLES.indexOf(role);
}

/** Find out who looks. */
export async function enter(): Promise<void> {
  try {
    if ((await get("/api/auth/setup")).needed) session.value = { state: "set-up" };
    else {
      const me = await get("/api/auth/me");
      session.value = { state: "inside", user: me.username, role: me.role as Role };
      start();
    }
  } catch (error) {
    const known = error instanceof Refused && error.status === 401;
    session.value = { state: known ? "log-in" : "away" };
    if (!known) setTimeout(() => void enter(), RETRY_MS);
  }
}

/** Who mistyped must wait some seconds before the next try: that is waited for here, where it is short. */
export async function logIn(username: string, password: string, patience_s = 5): Promise<void> {
  try {
    await post("/api/auth/login", { body: { username, password, cookie: true } as never });
  } catch (error) {
    const wait_s = error instanceof Refused && error.status === 429 ? error.retry_s : 0;
    if (!wait_s || wait_s > patience_s) throw error;
    await new Promise((resolve) => setTimeout(resolve, wait_s * 1000));
    return logIn(username, password, patience_s - wait_s);
  }
  await enter();
}

export async function setUp(code: string, username: string, password: string): Promise<void> {
  await post("/api/auth/setup", { body: { code, username, password, cookie: true } as never });
  await enter();
}

/** Where the gateway is not reached the log-in goes on, and whoever asked is told: the cookie would open the page again. */
export async function logOut(): Promise<void> {
  await post("/api/auth/logout");
  leave();
}

function leave(): void {
  if (session.value.state === "log-in") return;
  stop();
  forget();
  session.value = { state: "log-in" };
}

/** Whether it is still the same user with the same role: another tab may have logged in anew, an admin may have changed it. */
async function lookAgain(): Promise<void> {
  const before = session.value;
  if (before.state !== "inside") return;
  const me = await get("/api/auth/me").catch(() => undefined);
  if (!me || session.value !== before || (me.username === before.user && me.role === before.role)) return;
  if (me.username !== before.user) forget();
  session.value = { state: "inside", user: me.username, role: me.role as Role };
}

onLoggedOut(() => session.value.state === "inside" && leave());
onForbidden(() => void lookAgain());
globalThis.document?.addEventListener("visibilitychange", () => !document.hidden && void lookAgain());
