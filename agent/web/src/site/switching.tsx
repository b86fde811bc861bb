// Telling stations what to do, and telling people what came of it.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, patch, post } from "../core/api.ts";
import { refreshAll } from "../core/ask.ts";
import { texts, word } from "../core/i18n.ts";
import { useLink } from "../core/live.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { Badge, tell, type Tone } from "../ui/parts.tsx";
import type { StationOut } from "./use-site.ts";

const say = texts({
  en: { on: "On", off: "Off", switches: "Switch {name}", failed: "{name}: {outcome}: {reason}", done: "{name}: {reason}", plain: "done", astray: "does not follow", unknown: "not known" },
  es: { on: "Encender", off: "Apagar", switches: "Encender o apagar {name}", failed: "{name}: {outcome}: {reason}", done: "{name}: {reason}", plain: "hecho", astray: "no obedece", unknown: "no se sabe" },
});

type Result = Answer<"/api/stations/{station_id}/commands", "post">;

/** Say what a command came to. A reason is in the gateway's own words. */
export function tellOutcome(name: string, results: readonly Pick<Result, "outcome" | "reason">[]): void {
  for (const one of results) {
    const good = one.outcome === "done";
    tell(say(good ? "done" : "failed", { name, outcome: word(one.outcome), reason: told(one.reason) || say("plain") }), good ? "good" : "bad");
  }
}

export async function change(station: Pick<StationOut, "id" | "name">, body: { status?: "on" | "off"; limit_a?: number; for_s?: number }): Promise<void> {
  const { results } = await patch("/api/stations/{station_id}", { params: { station_id: station.id }, body: body as never });
  tellOutcome(station.name || station.id, results);
}

export async function command(station: Pick<StationOut, "id" | "name">, action: string, args: Record<string, unknown> = {}): Promise<Result> {
  const result = await post("/api/stations/{station_id}/commands", { params: { station_id: station.id }, body: { action, args } as never });
  tellOutcome(station.name || station.id, [result]);
  return result;
}

/** Whether it can be told to be on or off: by a switch, or by a limit of 0. */
export const canSwitch = (station: StationOut): boolean => station.registered || "charging_enabled" in station.settings || station.settings["current_limit_a"]?.zero === true;

/** On and off, side by side; the one that holds is pressed. */
export function OnOff({ station, lasting = {} }: { station: StationOut; lasting?: { for_s?: number } }): JSX.Element | null {
  const [busy, setBusy] = useState<"on" | "off" | "">("");
  const link = useLink();
  if (!may("operator") || !canSwitch(station)) return null;
  const set = async (status: "on" | "off"): Promise<void> => {
    setBusy(status);
    try {
      await change(station, { status, ...lasting });
    } catch (error) {
      tell(`${station.name || station.id}: ${error instanceof Error ? error.message : String(error)}`, "bad");
    } finally {
      setBusy("");
      refreshAll();
    }
  };
  return (
    <div class="onoff" role="group" aria-label={say("switches", { name: station.name || station.id })}>
      {(["on", "off"] as const).map((status) => (
        <button key={status} type="button" class={status} aria-pressed={station.status === status} aria-busy={busy === status} disabled={!!busy || link === "lost"} onClick={() => void set(status)}>
          {say(status)}
        </button>
      ))}
    </div>
  );
}

const TONES: Readonly<Record<string, Tone>> = { Charging: "good", Faulted: "bad", Unavailable: "warn", Preparing: "info", SuspendedEV: "info", SuspendedEVSE: "info", Finishing: "info", Occupied: "info", Reserved: "info" };

/** What the charger says, what was decided, and whether it follows. */
export function StationState({ station, stale }: { station: StationOut; stale?: boolean }): JSX.Element {
  return (
    <span class={`states ${stale ? "old" : ""}`}>
      {station.connector && <Badge tone={TONES[station.connector] ?? "dim"}>{word(station.connector)}</Badge>}
      {!station.connector && !station.registered && <Badge>{say("unknown")}</Badge>}
      {station.status === "off" && <Badge tone="warn">{word("off")}</Badge>}
      {station.status === "on" && <Badge>{word("on")}</Badge>}
      {station.following === false && <Badge tone="bad">{say("astray")}</Badge>}
    </span>
  );
}

/** How much a station wants to be seen: what is wrong first, then what charges. */
export function urgency(station: StationOut): number {
  if (station.following === false || station.connector === "Faulted") return 0;
  if ((station.power_w ?? 0) > 0 || station.connector === "Charging") return 1;
  if (station.connector && !["Available", "Unavailable"].includes(station.connector)) return 2;
  return 3;
}

