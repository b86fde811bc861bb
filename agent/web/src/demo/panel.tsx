// The demo's panel: what the scenario does now and next, and a button for each fault. Nothing is shown where no demo runs.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, post } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { ago } from "../core/format.ts";
import { keep, language, read, texts } from "../core/i18n.ts";
import { may } from "../core/session.ts";
import { Icon } from "../ui/icons.tsx";
import { Action, Badge } from "../ui/parts.tsx";
import { left } from "./steps.ts";

const say = texts({
  en: {
    demo: "Demo", now: "Now", next: "Next", resume: "Start the scenario", pause: "Stop the scenario", stopped: "The scenario stands still. Nothing comes and goes by itself.", faults: "Faults to try", put: "Let it happen", heal: "Put it right", happens: "happens now", since: "since {ago}",
    in: "in about {time} s", view: "An operator can switch these.", away: "The demo does not answer: {why}", open: "Scenario and faults", on: "{count} on", steps: "Steps of the scenario",
  },
  es: {
    demo: "Demostración", now: "Ahora", next: "Después", resume: "Iniciar el guion", pause: "Parar el guion", stopped: "El guion está parado. Nada viene ni va por sí solo.", faults: "Averías para probar", put: "Que ocurra", heal: "Repararla", happens: "ocurre ahora", since: "desde {ago}",
    in: "en unos {time} s", view: "Un operador puede activarlas.", away: "La demostración no responde: {why}", open: "Guion y averías", on: "{count} en curso", steps: "Pasos del guion",
  },
});

type Demo = Answer<"/api/demo">;
type Both = { en: string; es: string };
const KEPT = "enlace.demo";
const of = (text: Both | null): string => text?.[language.value] ?? "";

export function DemoPanel(): JSX.Element | null {
  const site = useAsk("/api/site", {}, 60);
  return site.data?.demo ? <Panel /> : null;
}

function Panel(): JSX.Element {
  const asked = useAsk("/api/demo", {}, 2);
  const [open, setOpen] = useState(read(KEPT) === "open");
  const demo = asked.data;
  const active = demo?.faults.filter((one) => one.active).length ?? 0;
  const toggle = (event: { currentTarget: HTMLDetailsElement }): void => {
    setOpen(event.currentTarget.open);
    keep(KEPT, event.currentTarget.open ? "open" : "closed");
  };
  return (
    <aside aria-label={say("demo")}>
      <details class="demo" open={open} onToggle={toggle}>
        <summary>
          <Icon name="lab" />
          <strong>{say("demo")}</strong>
          <span class="what" role="status">
            {demo ? (demo.scenario.running ? of(demo.scenario.text) : say("stopped")) : asked.error && say("away", { why: asked.error.message })}
          </span>
          {active > 0 && <Badge tone="warn">{say("on", { count: active })}</Badge>}
          <span class="hidden">{say("open")}</span>
        </summary>
        {open && demo && <Inside demo={demo} />}
      </details>
    </aside>
  );
}

function Inside({ demo }: { demo: Demo }): JSX.Element {
  const { scenario } = demo;
  const seconds = left(scenario);
  const set = (running: boolean) => (): Promise<unknown> => post("/api/demo/scenario", { body: { running } });
  return (
    <div class="inside">
      <section class="row between">
        <div class="scene">
          {!scenario.running && <p class="dim">{say("stopped")}</p>}
          {scenario.running && (
            <>
              <ol class="steps" aria-label={say("steps")}>
                {scenario.steps.map((one) => (
                  <li key={one.id} aria-current={one.id === scenario.step ? "step" : undefined} title={of(one.text)}>
                    <span class="hidden">{of(one.text)}</span>
                  </li>
                ))}
              </ol>
              <p>
                <strong>{say("now")}:</strong> {of(scenario.text)} <small class="dim">{say("since", { ago: ago(scenario.since) })}</small>
              </p>
              {scenario.next && (
                <p class="dim">
                  <strong>{say("next")}</strong>
                  {seconds !== undefined && ` ${say("in", { time: seconds })}`}: {of(scenario.next)}
                </p>
              )}
            </>
          )}
        </div>
        {may("operator") && (
          <Action icon={scenario.running ? "pause" : "play"} kind={scenario.running ? "plain" : "main"} run={set(!scenario.running)}>
            {say(scenario.running ? "pause" : "resume")}
          </Action>
        )}
      </section>
      <h3>{say("faults")}</h3>
      {!may("operator") && <p class="dim">{say("view")}</p>}
      <ul class="faults">
        {demo.faults.map((one) => (
          <li key={one.id} class={one.active ? "on" : ""}>
            <div class="row between">
              <strong>{of(one.title)}</strong>
              {one.active && <Badge tone="warn">{say("happens")}</Badge>}
            </div>
            <p class="dim">{of(one.text)}</p>
            {may("operator") && (
              <Action icon={one.active ? "check" : "warn"} label={`${say(one.active ? "heal" : "put")}: ${of(one.title)}`} run={() => post("/api/demo/faults/{fault_id}", { params: { fault_id: one.id }, body: { active: !one.active } })}>
                {say(one.active ? "heal" : "put")}
              </Action>
            )}
          </li>
        ))}
      </ul>
    </div>
  );
}
