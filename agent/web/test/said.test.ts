import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { language } from "../src/core/i18n.ts";
import { figure, spanish, tellsIn, told } from "../src/core/told.ts";
import type { Catalogue } from "../src/core/said.ts";

const catalogue = JSON.parse(readFileSync(new URL("../src/said/es.json", import.meta.url), "utf8")) as Catalogue;
const FIELD = /\{(\w+)(:n)?\}/g;

function inSpanish<T>(run: () => T): T {
  language.value = "es";
  try {
    return run();
  } finally {
    language.value = "en";
  }
}

/** Values for the fields of a template, other ones each time; no two of a template are alike. */
function valuesOf(template: string, seed: number): Map<string, [string, string]> {
  const values = new Map<string, [string, string]>();
  for (const [, name, isNumber] of template.matchAll(FIELD)) {
    const count = values.size + seed;
    const text = ["cp1", "meter_7", "rtu:///dev/ttyUSB0", "Señor_Ñ", "10.0.0.21:502", "'x_y z1'", "zz9"][count % 7]! + (count > 6 ? count : "");
    values.set(name!, isNumber ? [`${count}.25`, `${count},25`] : [text, text]);
  }
  return values;
}

const filled = (template: string, values: Map<string, [string, string]>, which: 0 | 1): string => template.replace(FIELD, (_, name: string) => values.get(name)![which]);

test("each template is known again with its fields filled in, and said with the same", () => {
  inSpanish(() => {
    const tells = tellsIn(catalogue);
    const wrong: string[] = [];
    for (const [english, text] of Object.entries(catalogue)) {
      for (const seed of [0, 3, 11]) {
        const values = valuesOf(english, seed);
        const came = tells(filled(english, values, 0));
        const wanted = filled(text, values, 1);
        if (came !== wanted) wrong.push(`${filled(english, values, 0)}\n   ${came}\n   ${wanted}`);
      }
    }
    assert.deepEqual(wrong, []);
  });
});

const SMALL: Catalogue = {
  "nobody wants anything of it": "nadie le pide nada",
  "no answer in time": "sin respuesta a tiempo",
  "ask unit {unit} on {name}": "preguntar a la unidad {unit} en {name}",
  "is it on, is its unit id right, is timeout_s long enough?": "¿está encendido?",
  "{line} carries {measured_a:n} of {limit_a:n} A, {left}": "{line} lleva {measured_a:n} de {limit_a:n} A, {left}",
  "{left_a:n} A left for {many} stations": "quedan {left_a:n} A para {many} estaciones",
  "waits until {until_us}: {why}": "espera hasta {until_us}: {why}",
  "it stays {word} for at least {least_s:n} s": "queda {word} al menos {least_s:n} s",
  "{name} as a whole: {reason}": "{name} en conjunto: {reason}",
  "at most {limit_a:n} A": "como máximo {limit_a:n} A",
  "{said} by {one}": "{said} por {one}",
  "load since {since}": "gestión de carga desde {since}",
  "{name} and {name2}": "{name} y {name2}",
  "{left} is {left2} ({said}{op} {other})": "{left}: {left2} ({said}{op} {other})",
  "{backlog} {name} records wait": "esperan {backlog} registros ({name})",
};

test("a sentence in a sentence, numbers, times and states are said as well", () => {
  inSpanish(() => {
    const tells = tellsIn(SMALL);
    assert.equal(tells("L1 carries 31.5 of 32 A, 0.5 A left for 3 stations"), "L1 lleva 31,5 de 32 A, quedan 0,5 A para 3 estaciones");
    assert.equal(tells("cp1 as a whole: at most 16 A"), "cp1 en conjunto: como máximo 16 A");
    assert.match(tells("waits until 2020-02-03T04:05:06Z: it stays off for at least 60 s"), /^espera hasta .*feb.*: queda apagada al menos 60 s$/);
    assert.equal(tells("cp1 as a whole: 7.4 kW, 32 / 31.96 / 31.95 A of OCPP 1.6"), "cp1 en conjunto: 7,4 kW, 32 / 31,96 / 31,95 A of OCPP 1.6");
    assert.equal(tells("at most 1,250.5 A"), "como máximo 1250,5 A");
  });
});

test("what was put together is taken apart, with its punctuation", () => {
  inSpanish(() => {
    const tells = tellsIn(SMALL);
    assert.equal(
      tells("ask unit 1 on rtu:///dev/ttyS0: no answer in time (is it on, is its unit id right, is timeout_s long enough?)"),
      "preguntar a la unidad 1 en rtu:///dev/ttyS0: sin respuesta a tiempo (¿está encendido?)",
    );
    assert.equal(tells("at most 6 A; nobody wants anything of it"), "como máximo 6 A; nadie le pide nada");
    assert.equal(tells("body.limit_a: no answer in time"), "body.limit_a: sin respuesta a tiempo");
    assert.equal(tells(" nobody wants anything of it "), " nadie le pide nada ");
  });
});

test("where more of a text is known in pieces, it is those", () => {
  inSpanish(() => {
    const tells = tellsIn(SMALL);
    assert.equal(tells("2 event records wait, 0 telemetry records wait"), "esperan 2 registros (event), esperan 0 registros (telemetry)");
    assert.equal(tells("on and at most 32 A by load since 19:23 (nobody wants anything of it)"), "encendida y como máximo 32 A por gestión de carga desde 19:23 (nadie le pide nada)");
    assert.equal(tells("battery1.temperature_degc is 51 degc (> 50)"), "battery1.temperature_degc: 51 degc (> 50)");
  });
});

test("what is no sentence of ours stays as it came, in any language", () => {
  const own = ["", "Garaje norte", "cable taken by Ana; back at 5", "tcp://10.0.0.9:502", "(", "{name}", "$& $1", "a (b", "12.5", "\n", "The lamp is broken", "painting and new lights", "on"];
  spanish.value = { say: tellsIn(SMALL) };
  for (const text of own) {
    assert.equal(told(text), text);
    assert.equal(inSpanish(() => told(text)), text);
  }
  spanish.value = { say: tellsIn(catalogue) };
  for (const text of ["The fan is loud: it is old", "Ana: please ring me on the red phone, at noon"]) assert.equal(inSpanish(() => told(text)), text);
  spanish.value = { say: tellsIn(SMALL) };
  assert.equal(told("nobody wants anything of it"), "nobody wants anything of it");
  assert.equal(inSpanish(() => told("nobody wants anything of it")), "nadie le pide nada");
  assert.equal(inSpanish(() => told(null)), "");
  spanish.value = undefined;
});

test("texts that could be taken apart in very many ways end all the same", { timeout: 60_000 }, () => {
  inSpanish(() => {
    const tells = tellsIn(catalogue);
    for (const text of ["a: b, c; d (e. ".repeat(60), "a: b, c; d (e. ".repeat(6000), "x is y is ".repeat(90), "x is (a b c d e) gone ".repeat(43)]) assert.equal(tells(text), text);
  });
});

test("numbers keep their digits", () => {
  inSpanish(() => {
    assert.equal(figure("0.50"), "0,50");
    assert.equal(figure("+3"), "+3");
    assert.equal(figure("12.5%"), "12,5 %");
    assert.equal(figure("1e+06"), "1e+06");
    assert.equal(figure("nan"), "nan");
  });
});

test("a decision that takes back what was set is said whole", () => {
  inSpanish(() => assert.equal(tellsIn(catalogue)("nobody wants anything of it any more: what was set is taken back"), "ya nadie le pide nada: lo que se fijó se retira"));
});

test("a word alone stays as it came, and is ours in a sentence, whichever was asked first", () => {
  inSpanish(() => {
    const sentence = "done; it follows: it draws 0 W";
    const fresh = (): ((text: string) => string) => tellsIn(catalogue);
    const [one, other] = [fresh(), fresh()];
    assert.equal(one("done"), "done");
    const after = one(sentence);
    assert.equal(other(sentence), after);
    assert.equal(other("done"), "done");
    assert.match(after, /^hecho; /);
  });
});
