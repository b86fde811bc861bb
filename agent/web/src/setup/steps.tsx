// The steps of the set-up. All that they ask stands in the gateway, so that one may leave and come back at any of them.
import type { JSX } from "preact";
import { keep, read, texts } from "../core/i18n.ts";
import { to } from "../core/route.ts";

const say = texts({
  en: { steps: "Steps", site: "Site", devices: "Devices", check: "Check", done: "Done", next: "Go on", back: "Back" },
  es: { steps: "Pasos", site: "Sitio", devices: "Equipos", check: "Comprobar", done: "Listo", next: "Seguir", back: "Atrás" },
});

export const STEPS = ["site", "devices", "check", "done"] as const;
export type Step = (typeof STEPS)[number];
const KEPT = "enlace.wizard";

/** The step of the address; without one, where somebody was last. */
export function stepOf(id: string): Step {
  const step = [id, read(KEPT) ?? ""].map((asked) => STEPS.find((one) => one === asked)).find(Boolean) ?? "site";
  keep(KEPT, step === "done" ? "site" : step);
  return step;
}

export const Stepper = ({ at }: { at: Step }): JSX.Element => (
  <nav aria-label={say("steps")}>
    <ol class="stepper">
      {STEPS.map((one, index) => (
        <li key={one} class={index < STEPS.indexOf(at) ? "past" : ""}>
          <a href={to("wizard", one)} aria-current={one === at ? "step" : undefined}>
            <span class="nr">{index + 1}</span> {say(one)}
          </a>
        </li>
      ))}
    </ol>
  </nav>
);

/** To the step before and to the next. */
export function Ways({ at }: { at: Step }): JSX.Element {
  const index = STEPS.indexOf(at);
  const before = STEPS[index - 1];
  const after = STEPS[index + 1];
  return (
    <div class="actions ways">
      {before && (
        <a class="button" href={to("wizard", before)}>
          {say("back")}
        </a>
      )}
      {after && (
        <a class="button main" href={to("wizard", after)}>
          {say("next")}
        </a>
      )}
    </div>
  );
}
