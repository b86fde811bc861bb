// Why a station is as it is: everybody's wishes, whose is done, and what was decided before.
import type { JSX } from "preact";
import type { Item } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { moment, number, quantity } from "../core/format.ts";
import { texts, word, wordOf } from "../core/i18n.ts";
import { to } from "../core/route.ts";
import { told } from "../core/told.ts";
import { Await, Badge, Card, Table } from "../ui/parts.tsx";

const say = texts({
  en: {
    why: "Why", who: "Who wins?", nobody: "Nobody wants anything of it: it does what the charger and the vehicle agree on.", on: "on", off: "off", most: "at most {a}", nothing: "no wish", since: "since {time}", until: "until {time}", decides: "decides", limits: "limits", waits: "stands behind",
    order: "The strongest wins: interlock, safety, grid, by hand, from the centre, rule, schedule. Limits that protect add up.", past: "What was decided", time: "Time", what: "Decision", reason: "Reason", result: "Came to", from: "From these values", none: "Nothing was decided yet.",
    interlock: "interlock", safety: "safety", grid: "grid", manual: "by hand", remote: "from the centre", rule: "rule", schedule: "schedule", free: "free", limited: "{status}, at most {a}",
  },
  es: {
    why: "Por qué", who: "¿Quién gana?", nobody: "Nadie le pide nada: hace lo que acuerdan el cargador y el vehículo.", on: "encendida", off: "apagada", most: "como máximo {a}", nothing: "sin deseo", since: "desde {time}", until: "hasta {time}", decides: "decide", limits: "limita", waits: "queda detrás",
    order: "Gana el más fuerte: enclavamiento, seguridad, red, a mano, desde la central, regla, programa. Los límites que protegen se suman.", past: "Lo que se decidió", time: "Hora", what: "Decisión", reason: "Motivo", result: "Resultado", from: "Con estos valores", none: "Aún no se decidió nada.",
    interlock: "enclavamiento", safety: "seguridad", grid: "red", manual: "a mano", remote: "desde la central", rule: "regla", schedule: "programa", free: "libre", limited: "{status}, como máximo {a}",
  },
});

/** What came of a decision: a word of ours, or a sentence. */
const cameTo = (result: string): string => wordOf(result) ?? told(result);

type Decision = NonNullable<Item<"/api/stations/{station_id}/why">>;
type Wish = Decision["wishes"][number];
const ORIGINS = ["interlock", "safety", "grid", "manual", "remote", "rule", "schedule"] as const;
type Origin = (typeof ORIGINS)[number];
const originOf = (wish: Wish): string => (ORIGINS.includes(wish.origin as Origin) ? say(wish.origin as Origin) : word(wish.origin));

export function wanted(status: "on" | "off" | null, limit_a: number | null): string {
  if (limit_a === null) return status ? say(status) : "";
  return status ? say("limited", { status: say(status), a: quantity(limit_a, "A") }) : say("most", { a: quantity(limit_a, "A") });
}

export function WhyCard({ station }: { station: string }): JSX.Element {
  const asked = useAsk("/api/stations/{station_id}/why", { params: { station_id: station } }, 10);
  return (
    <Card title={say("why")} icon="search">
      {asked.data && !asked.data.items[0]?.wishes.length ? (
        <p>{told(asked.data.items[0]?.reason) || say("nobody")}</p>
      ) : (
        <Await of={asked}>{({ items }) => <Now decision={items[0]!} />}</Await>
      )}
    </Card>
  );
}

function Now({ decision }: { decision: Decision }): JSX.Element {
  const strength = (one: Wish): number => ORIGINS.indexOf(one.origin as Origin);
  const sorted = [...decision.wishes].sort((one, other) => strength(one) - strength(other) || other.since.localeCompare(one.since));
  const inputs = Object.entries(decision.inputs);
  return (
    <>
      <p>
        <strong>{wanted(decision.status, decision.limit_a)}</strong> <span class="dim">{cameTo(decision.result)}</span>
      </p>
      <ul class="plain wishes">
        {sorted.map((one) => (
          <WishRow key={`${one.key} ${one.since} ${one.limit_a}`} wish={one} part={partOf(one, decision)} />
        ))}
      </ul>
      {inputs.length > 0 && (
        <details>
          <summary>{say("from")}</summary>
          <dl class="facts">
            {inputs.map(([name, value]) => [
              <dt key={name}>
                <a href={to("charts", "", { signals: name })}>{name}</a>
              </dt>,
              <dd key={`${name} is`}>{number(value, value !== null && !Number.isInteger(value) ? 2 : 0)}</dd>,
            ])}
          </dl>
        </details>
      )}
      <details>
        <summary>{say("who")}</summary>
        <p class="dim">{say("order")}</p>
      </details>
    </>
  );
}

/** What a wish does to the decision. */
function partOf(wish: Wish, decision: Decision): "decides" | "limits" | "waits" {
  const { winner } = decision;
  const is = !!winner && winner.key === wish.key && winner.since === wish.since;
  if (wish.status !== null && is) return "decides";
  if (wish.limit_a !== null && wish.limit_a === decision.limit_a) return "limits";
  return is ? "decides" : "waits";
}

const WishRow = ({ wish, part }: { wish: Wish; part: "decides" | "limits" | "waits" }): JSX.Element => (
  <li class={part}>
    <span class="row">
      <Badge tone={part === "waits" ? "dim" : "good"}>{say(part)}</Badge>
      <strong>{wanted(wish.status, wish.limit_a) || say("nothing")}</strong>
    </span>
    <small class="dim">
      {originOf(wish)} · {wish.key} · {say("since", { time: moment(wish.since) })}
      {wish.until && ` · ${say("until", { time: moment(wish.until) })}`}
      {wish.reason && ` · ${told(wish.reason)}`}
    </small>
  </li>
);

export function PastDecisions({ station }: { station: string }): JSX.Element {
  const asked = useAsk("/api/stations/{station_id}/history", { params: { station_id: station }, query: { limit: 50 } }, 15);
  return (
    <Card title={say("past")} icon="log" wide>
      <Await of={asked} empty={say("none")}>
        {({ items }) => (
          <Table head={[say("time"), say("what"), say("reason"), say("result")]} label={say("past")}>
            {items.map((one) => (
              <tr key={one.time}>
                <td class="nowrap">{moment(one.time)}</td>
                <td>{wanted(one.status, one.limit_a) || say("free")}</td>
                <td>{told(one.reason)}</td>
                <td>{cameTo(one.result)}</td>
              </tr>
            ))}
          </Table>
        )}
      </Await>
    </Card>
  );
}
