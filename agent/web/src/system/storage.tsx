// What is kept, how much room it takes, what it costs the flash, and what could not be kept.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Answer } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { moment, number, quantity } from "../core/format.ts";
import { keep, read, texts, word } from "../core/i18n.ts";
import { Alert, Await, Bar, Card, Field, Pager, Table } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Storage", of: "{used} of {quota}", full: "Above it the oldest is given up.", used: "Room taken", ledger: "Events and sessions", evidence: "Set aside", evidenceHint: "Unusable databases and an upgrade's copy stand aside. Copy them away, then delete them.", daily: "Written a day",
    later: "known after a day", life: "Endurance of the medium, TB", lifeHint: "what its maker promises to be written in its life (TBW)", lasts: "At this it lasts {years} years.", days: "Written by day", lost: "{count} rows were given up before the central server had them.",
    dropped: "What could not be kept", none: "Nothing was given up.", when: "When", what: "What", why: "Why", rows: "Rows", range: "From when to when", all: "all signals",
  },
  es: {
    title: "Almacenamiento", of: "{used} de {quota}", full: "Por encima se abandona lo más antiguo.", used: "Espacio ocupado", ledger: "Eventos y sesiones", evidence: "Apartado", evidenceHint: "Bases de datos inservibles y la copia de una actualización están apartadas. Cópielas y después bórrelas.", daily: "Escrito al día",
    later: "se sabrá tras un día", life: "Resistencia del medio, TB", lifeHint: "lo que el fabricante promete escribir en su vida (TBW)", lasts: "A este ritmo dura {years} años.", days: "Escrito por día", lost: "Se abandonaron {count} filas antes de que el servidor central las tuviera.",
    dropped: "Lo que no se pudo guardar", none: "No se abandonó nada.", when: "Cuándo", what: "Qué", why: "Por qué", rows: "Filas", range: "De cuándo a cuándo", all: "todas las señales",
  },
});

type Store = NonNullable<Extract<Answer<"/api/system/health">, { parts: unknown }>["store"]>;
const KEPT = "enlace.endurance_tb";
const SIZE = 20;
const MOST = 7;

export function Storage({ of }: { of: Store }): JSX.Element {
  const [endurance, setEndurance] = useState(read(KEPT) ?? "");
  const tb = Number(endurance.replace(",", "."));
  const wear = useAsk("/api/system/wear", { query: { endurance_tb: tb > 0 ? tb : undefined } }, 60);
  const pct = of.quota_bytes ? (100 * of.bytes) / of.quota_bytes : undefined;
  const days = wear.data?.days.slice(0, MOST) ?? [];
  const most = Math.max(1, ...days.map((one) => one.bytes));
  return (
    <Card title={say("title")} icon="log" tone={of.lost_rows || of.evidence_bytes ? "warn" : undefined}>
      <p>{say("of", { used: quantity(of.bytes, "B"), quota: quantity(of.quota_bytes, "B") })}</p>
      <Bar pct={pct} label={say("used")} tone={(pct ?? 0) > 90 ? "warn" : "good"} />
      <small class="dim">{say("full")}</small>
      {of.lost_rows > 0 && <Alert tone="warn">{say("lost", { count: number(of.lost_rows) })}</Alert>}
      {of.evidence_bytes > 0 && <Alert tone="warn">{`${quantity(of.evidence_bytes, "B")}: ${say("evidenceHint")}`}</Alert>}
      <dl class="facts">
        <dt>{say("ledger")}</dt>
        <dd>{quantity(of.ledger_bytes, "B")}</dd>
        <dt>{say("daily")}</dt>
        <dd>{of.written_bytes_per_day === null ? say("later") : quantity(of.written_bytes_per_day, "B")}</dd>
      </dl>
      {days.length > 0 && (
        <>
          <h3>{say("days")}</h3>
          <ul class="plain">
            {days.map((one) => (
              <li key={one.day} class="days">
                <span>{one.day}</span>
                <Bar pct={(100 * one.bytes) / most} label={one.day} />
                <span>{quantity(one.bytes, "B")}</span>
              </li>
            ))}
          </ul>
        </>
      )}
      <Field label={say("life")} hint={wear.data?.years ? say("lasts", { years: number(wear.data.years, wear.data.years < 10 ? 1 : 0) }) : say("lifeHint")} inputMode="decimal" value={endurance} onInput={(event) => (keep(KEPT, event.currentTarget.value), setEndurance(event.currentTarget.value))} />
    </Card>
  );
}

export function Dropped(): JSX.Element {
  const [page, setPage] = useState(1);
  const dropped = useAsk("/api/system/dropped", { query: { page, page_size: SIZE } }, 60);
  return (
    <Card title={say("dropped")} icon="trash" wide={Boolean(dropped.data?.total)}>
      <Await of={dropped} empty={say("none")}>
        {(list) => (
          <>
            <Table head={[say("when"), say("what"), say("why"), `>${say("rows")}`, say("range")]} label={say("dropped")}>
              {list.items.map((one, index) => (
                <tr key={index}>
                  <td>{moment(one.time)}</td>
                  <td>{one.signal ?? say("all")}</td>
                  <td>{word(one.reason)}</td>
                  <td class="value">{number(one.rows)}</td>
                  <td>{`${moment(one.oldest)} … ${moment(one.newest)}`}</td>
                </tr>
              ))}
            </Table>
            <Pager page={page} size={SIZE} total={list.total} set={setPage} />
          </>
        )}
      </Await>
    </Card>
  );
}
