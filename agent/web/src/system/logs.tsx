// The newest lines of the log, live, and how much is logged.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { put } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { duration, moment, number } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { Icon } from "../ui/icons.tsx";
import { Action, Await, Badge, Card, Choice, Field, type Tone } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Log", least: "From", search: "Contains", live: "live", stop: "Stop", go: "Go on", shown: "{shown} of {total} lines, the newest first", dropped: "{count} older lines are gone: only the newest 1,000 are kept here.", none: "No such lines.",
    level: "Logged now", back: "{level} again in {time}", more: "Log everything for 10 min", less: "As configured", debug: "debug", info: "info", warning: "warning", error: "error", hint: "Everything is much: it goes back by itself.",
  },
  es: {
    title: "Registro", least: "Desde", search: "Contiene", live: "en vivo", stop: "Parar", go: "Seguir", shown: "{shown} de {total} líneas, primero las más nuevas", dropped: "Ya no están {count} líneas anteriores: aquí solo se guardan las 1000 más nuevas.", none: "No hay líneas así.",
    level: "Se registra ahora", back: "de nuevo {level} en {time}", more: "Registrar todo durante 10 min", less: "Según la configuración", debug: "todo", info: "información", warning: "avisos", error: "errores", hint: "Todo es mucho: vuelve por sí solo.",
  },
});

type Level = "debug" | "info" | "warning" | "error";
const TONES: Readonly<Record<Level, Tone>> = { debug: "dim", info: "info", warning: "warn", error: "bad" };
const LIMIT = 200;
const DEBUG_S = 600;
const LIVE_S = 3;
const STOPPED_S = 86_400;

export function Logs(): JSX.Element {
  const [level, setLevel] = useState<Level>("info");
  const [text, setText] = useState("");
  const [live, setLive] = useState(true);
  const words: Record<Level, string> = { debug: say("debug"), info: say("info"), warning: say("warning"), error: say("error") };
  const lines = useAsk("/api/system/logs", { query: { level, text, limit: LIMIT } }, live ? LIVE_S : STOPPED_S);
  return (
    <div class="stack">
      <LogLevel words={words} more={() => setLevel("debug")} />
      <Card title={say("title")} icon="log" action={
        <button type="button" aria-pressed={live} onClick={() => setLive(!live)}>
          <Icon name={live ? "pause" : "play"} /> {say(live ? "stop" : "go")}
        </button>
      }>
        <div class="filters">
          <Choice<Level> label={say("least")} value={level} of={words} set={setLevel} />
          <Field label={say("search")} type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </div>
        <Await of={lines} empty={say("none")}>
          {(found) => (
            <>
              <small class="dim">{say("shown", { shown: number(found.items.length), total: number(found.total) })}</small>
              <ul class="lines log" aria-label={say("title")}>
                {found.items.map((one, index) => (
                  <li key={`${one.time} ${index}`}>
                    <span class="when">{moment(one.time)}</span> <Badge tone={TONES[one.level as Level] ?? "dim"}>{words[one.level as Level] ?? one.level}</Badge> <small class="dim">{one.logger}</small>
                    <pre>{one.text}</pre>
                  </li>
                ))}
              </ul>
              {found.dropped > 0 && <small class="dim">{say("dropped", { count: number(found.dropped) })}</small>}
            </>
          )}
        </Await>
      </Card>
    </div>
  );
}

function LogLevel({ words, more }: { words: Record<Level, string>; more: () => void }): JSX.Element {
  const now = useAsk("/api/system/log-level", {}, 5);
  return (
    <Card>
      <Await of={now}>
        {(found) => (
          <div class="row between">
            <div>
              {say("level")}: <strong>{words[found.level]}</strong>
              {found.for_s !== null && <span class="dim"> · {say("back", { level: words[found.configured], time: duration(found.for_s) })}</span>}
              <div>
                <small class="dim">{say("hint")}</small>
              </div>
            </div>
            {found.for_s === null ? (
              <Action run={() => put("/api/system/log-level", { body: { level: "debug", for_s: DEBUG_S } }).then(more)}>{say("more")}</Action>
            ) : (
              <Action run={() => put("/api/system/log-level", { body: { level: found.configured, for_s: 1 } })}>{say("less")}</Action>
            )}
          </div>
        )}
      </Await>
    </Card>
  );
}
