// The site's power as a picture: what gives stands with an arrow to the middle, what takes with one from it. The same is
// said in a sentence below, which is also what is read aloud.
import type { JSX } from "preact";
import { texts } from "../core/i18n.ts";
import { quantity } from "../core/format.ts";
import { useLink } from "../core/live.ts";
import { Icon, type IconName } from "../ui/icons.tsx";
import { type Flow, direction, strength } from "./flow.ts";

const say = texts({
  en: {
    grid: "Grid", other: "House, other", battery: "Battery", chargers: "Chargers", solar: "Solar",
    draws: "{w} come from the grid", feeds: "{w} go to the grid", rests: "nothing flows from or to the grid", blind: "what comes from the grid is not known",
    charges: "the battery takes {w}", discharges: "the battery gives {w}", idle: "the battery rests", blank: "the battery's power is not known",
    charge: "the chargers take {w}", quiet: "no charger draws anything", dumb: "what the chargers draw is not known", sun: "the sun gives {w}", dark: "no sun",
    rest: "house and other take {w}", gives: "something unmeasured gives {w}", missing: "{n} of the figures are missing", was: "Before the connection was lost: {text}", title: "Power flow now",
  },
  es: {
    grid: "Red", other: "Casa, otros", battery: "Batería", chargers: "Cargadores", solar: "Solar",
    draws: "{w} vienen de la red", feeds: "{w} van a la red", rests: "no fluye nada de ni a la red", blind: "no se sabe qué viene de la red",
    charges: "la batería toma {w}", discharges: "la batería da {w}", idle: "la batería descansa", blank: "no se sabe la potencia de la batería",
    charge: "los cargadores toman {w}", quiet: "ningún cargador consume", dumb: "no se sabe qué consumen los cargadores", sun: "el sol da {w}", dark: "no hay sol",
    rest: "la casa y lo demás toman {w}", gives: "algo sin medir da {w}", missing: "faltan {n} de las cifras", was: "Antes de perderse la conexión: {text}", title: "Flujo de potencia ahora",
  },
});

type Name = "grid" | "other" | "battery" | "chargers" | "solar";
interface Node {
  name: Name;
  icon: IconName;
  w: number | null;
  /** Positive is towards the middle. */
  source: boolean;
  x: number;
  y: number;
  href: string;
  note?: string;
}

const RADIUS = 43;
const HUB = { x: 170, y: 160 };

/** `soc`: the batteries' charge, %, where there is one figure for it. */
export function FlowView({ flow, has, soc }: { flow: Flow; has: { battery: boolean; chargers: boolean; solar: boolean; grid: boolean }; soc: number | null }): JSX.Element {
  const stale = useLink() !== "live";
  const nodes = nodesOf(flow, has, soc);
  const strongest = Math.max(1, ...nodes.map((one) => Math.abs(one.w ?? 0)));
  const top = has.solar ? -14 : 98;
  const bottom = has.battery || has.chargers ? 318 : 222;
  return (
    <figure class={`flow ${stale ? "old" : ""}`}>
      <svg viewBox={`0 ${top} 340 ${bottom - top}`} role="group" aria-label={say("title")}>
        {nodes.map((node) => (
          <Wire key={node.name} node={node} strong={strength(node.w, strongest)} stale={stale} />
        ))}
        <circle class="hub" cx={HUB.x} cy={HUB.y} r="7" />
        {nodes.map((node) => (
          <Spot key={node.name} node={node} />
        ))}
      </svg>
      <figcaption>{stale ? say("was", { text: sentence(flow, has) }) : sentence(flow, has)}</figcaption>
    </figure>
  );
}

function nodesOf(flow: Flow, has: { battery: boolean; chargers: boolean; solar: boolean }, soc: number | null): Node[] {
  const both = has.battery && has.chargers;
  const nodes: Node[] = [
    { name: "grid", icon: "grid", w: flow.grid, source: true, x: 48, y: 160, href: "#/energy" },
    { name: "other", icon: "house", w: flow.other, source: false, x: 292, y: 160, href: "#/energy" },
  ];
  if (has.solar) nodes.push({ name: "solar", icon: "sun", w: flow.solar.w, source: false, x: 170, y: 48, href: "#/energy" });
  if (has.battery) nodes.push({ name: "battery", icon: "battery", w: flow.battery.w, source: false, x: both ? 104 : 170, y: 262, href: "#/battery", ...(soc === null ? {} : { note: quantity(Math.round(soc), "%") }) });
  if (has.chargers) nodes.push({ name: "chargers", icon: "station", w: flow.chargers.w, source: false, x: both ? 236 : 170, y: 262, href: "#/stations" });
  return nodes;
}

/** From the edge of the node to the middle; dashes run where power flows. */
function Wire({ node, strong, stale }: { node: Node; strong: number; stale: boolean }): JSX.Element {
  const way = direction(node.w, node.source);
  const [dx, dy] = [HUB.x - node.x, HUB.y - node.y];
  const length = Math.hypot(dx, dy);
  const from = { x: node.x + (dx / length) * RADIUS, y: node.y + (dy / length) * RADIUS };
  const line = way < 0 ? `M${HUB.x} ${HUB.y}L${from.x.toFixed(1)} ${from.y.toFixed(1)}` : `M${from.x.toFixed(1)} ${from.y.toFixed(1)}L${HUB.x} ${HUB.y}`;
  const middle = { x: (from.x + HUB.x) / 2, y: (from.y + HUB.y) / 2 };
  const angle = (Math.atan2(way < 0 ? -dy : dy, way < 0 ? -dx : dx) * 180) / Math.PI;
  return (
    <g aria-hidden="true" class={`wire ${node.name} s${strong} ${way ? "flows" : ""} ${stale ? "halts" : ""}`}>
      <path class="under" d={line} />
      {way !== 0 && <path class="runs" d={line} />}
      {way !== 0 && <path class="head" d="M-5-6 6 0-5 6z" transform={`translate(${middle.x.toFixed(1)} ${middle.y.toFixed(1)}) rotate(${angle.toFixed(0)}) scale(${(0.8 + strong * 0.1).toFixed(2)})`} />}
    </g>
  );
}

function Spot({ node }: { node: Node }): JSX.Element {
  const shown = node.name === "grid" || node.w === null ? node.w : Math.abs(node.w);
  return (
    <a href={node.href} class={`spot ${node.name}`}>
      <circle cx={node.x} cy={node.y} r={RADIUS} />
      <svg x={node.x - 12} y={node.y - 32} width="24" height="24">
        <Icon name={node.icon} />
      </svg>
      <text class="w" x={node.x} y={node.y + (node.note ? 10 : 14)}>
        {quantity(shown, "W")}
      </text>
      {node.note && (
        <text class="note" x={node.x} y={node.y + 27}>
          {node.note}
        </text>
      )}
      <text class="name" x={node.x} y={node.y < HUB.y && node.x === HUB.x ? node.y - RADIUS - 6 : node.y + RADIUS + 13}>
        {say(node.name)}
      </text>
    </a>
  );
}

/** The same as a sentence: nothing in the picture is not in it. */
function sentence(flow: Flow, has: { battery: boolean; chargers: boolean; solar: boolean; grid: boolean }): string {
  const w = (watt: number): { w: string } => ({ w: quantity(Math.abs(watt), "W") });
  const parts: string[] = [];
  const grid = direction(flow.grid, true);
  if (has.grid) parts.push(flow.grid === null ? say("blind") : grid > 0 ? say("draws", w(flow.grid)) : grid < 0 ? say("feeds", w(flow.grid)) : say("rests"));
  if (has.solar && flow.solar.w !== null) parts.push(direction(flow.solar.w, false) > 0 ? say("sun", w(flow.solar.w)) : say("dark"));
  if (has.battery) {
    const way = direction(flow.battery.w, false);
    parts.push(flow.battery.w === null ? say("blank") : way < 0 ? say("charges", w(flow.battery.w)) : way > 0 ? say("discharges", w(flow.battery.w)) : say("idle"));
  }
  if (has.chargers) parts.push(flow.chargers.w === null ? say("dumb") : direction(flow.chargers.w, false) ? say("charge", w(flow.chargers.w)) : say("quiet"));
  if (flow.other !== null) parts.push(flow.other >= 0 ? say("rest", w(flow.other)) : say("gives", w(flow.other)));
  const missing = flow.battery.missing + flow.chargers.missing + flow.solar.missing;
  if (missing) parts.push(say("missing", { n: missing }));
  const text = parts.join(", ");
  return text ? `${text[0]!.toUpperCase()}${text.slice(1)}.` : "";
}
