"""What happens in the demo: the steps of its scenario, and the faults that can be switched on. Data, nothing else.

An order is ``(counterpart, what it is told)``, as ``drivers/sim/directed.py`` has it; the counterparts are called as
the devices of ``config/demo.yaml`` are, and ``broker``. Each text is told in the languages of the dashboard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Text = Mapping[str, str]
Order = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what happens, what is told to whom at its beginning, and which faults it has on, by their ids."""

    id: str
    text: Text
    lasts_s: float
    orders: Sequence[Order] = ()
    faults: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a counterpart, by the counterpart's own name for it. ``hidden``: the scenario's own, not a button."""

    id: str
    counterpart: str
    name: str
    title: Text
    text: Text
    hidden: bool = False


def _both(en: str, es: str) -> Text:
    return {"en": en, "es": es}


def _plug(charger: str, outlet: int | None, wants_a: float) -> Order:
    where = {} if outlet is None else {"outlet": outlet}
    return charger, {"do": "plug", "wants_a": wants_a, **where}


def _unplug(charger: str, outlet: int | None) -> Order:
    return charger, {"do": "unplug"} if outlet is None else {"do": "unplug", "number": outlet}


def _sun(hour: float) -> Order:
    """How late it is for the sun; from then on its day goes by itself, in the time of a round."""
    return "pv1", {"do": "hour", "hour": hour}


def _battery(current_a: float) -> Order:
    return "battery1", {"do": "ask", "current_a": current_a}


#: What is so before the first step, also of the first round.
RESET: Sequence[Order] = (_unplug("cp1", 1), _unplug("cp2", None), _unplug("cp3", 1), _unplug("cp3", 2))

#: The hour at which a round begins. So the sun stands high when vehicles come, goes down while the battery supports
#: them, and rises when they leave: what nobody needs then goes to the grid.
MORNING_H = 9.0

#: In one round the battery is discharged by as much as it is charged.
STEPS: Sequence[Step] = (
    Step(
        "arrival",
        _both(
            "A van comes to charger cp1 and charges with up to 32 A. The battery charges too. The sun climbs: its day "
            "passes in five minutes.",
            "Una furgoneta llega al cargador cp1 y carga con hasta 32 A. La batería también carga. El sol sube: su día "
            "pasa en cinco minutos.",
        ),
        40,
        (*RESET, _plug("cp1", 1, 32.0), _battery(27.0), _sun(MORNING_H)),
    ),
    Step(
        "sharing",
        _both(
            "Three more vehicles come to cp2 and cp3. Together they want more than the site may draw: load management"
            " gives each its share.",
            "Llegan tres vehículos más a cp2 y cp3. Juntos piden más de lo que el sitio puede tomar de la red: la "
            "gestión de carga da a cada uno su parte.",
        ),
        50,
        (_plug("cp2", None, 32.0), _plug("cp3", 1, 32.0), _plug("cp3", 2, 16.0)),
    ),
    Step(
        "support",
        _both(
            "The sun goes down. The battery discharges: the grid gives less, and the vehicles get more.",
            "El sol baja. La batería se descarga: la red entrega menos y los vehículos reciben más.",
        ),
        30,
        (_battery(-60.0),),
    ),
    Step(
        "heat",
        _both(
            "A fan of the battery is weak and the battery warms up. Above 50 °C the alarm battery_hot switches cp1 "
            "and cp2 off.",
            "Un ventilador de la batería falla y la batería se calienta. Por encima de 50 °C la alarma battery_hot "
            "apaga cp1 y cp2.",
        ),
        40,
        (_battery(-60.0),),
        ("battery_warm",),
    ),
    Step(
        "cooling",
        _both(
            "The fan runs again. Below 45 °C the alarm clears and the chargers go on; somebody should still "
            "acknowledge it.",
            "El ventilador vuelve a girar. Por debajo de 45 °C la alarma termina y los cargadores siguen; alguien "
            "todavía debe reconocerla.",
        ),
        40,
        (_battery(0.0),),
    ),
    Step(
        "uplink_lost",
        _both(
            "The line to the central server is cut. Everything on site goes on, and what is measured waits in the "
            "buffer.",
            "Se corta la línea con el servidor central. En el sitio todo sigue, y lo medido espera en la memoria.",
        ),
        25,
        (_battery(27.0),),
        ("broker_down",),
    ),
    Step(
        "uplink_back",
        _both(
            "The line is back. The backlog drains, and nothing is lost or sent twice.",
            "La línea ha vuelto. Lo acumulado se envía, y nada se pierde ni se repite.",
        ),
        40,
    ),
    Step(
        "departure",
        _both(
            "The vehicles leave, and their sessions end with the energy that they took. The sun rises, and what nobody "
            "needs goes to the grid.",
            "Los vehículos se van y sus sesiones terminan con la energía que tomaron. Sale el sol, y lo que nadie "
            "necesita va a la red.",
        ),
        30,
        (*RESET, _battery(0.0)),
    ),
)


def _charger_faults(charger: str, kind: str, offline: Text) -> Sequence[Fault]:
    return (
        Fault(
            f"{charger}_offline",
            charger,
            "offline",
            _both(f"Charger {charger} offline ({kind})", f"Cargador {charger} sin conexión ({kind})"),
            offline,
        ),
        Fault(
            f"{charger}_refuses",
            charger,
            "refuses",
            _both(f"Charger {charger} refuses", f"El cargador {charger} rechaza"),
            _both(
                "It rejects to be switched or limited. Switch it off on its page: the command fails and says why.",
                "Rechaza que se le apague o limite. Apáguelo en su página: la orden falla y dice por qué.",
            ),
        ),
    )


def _called(version: str) -> Text:
    return _both(
        f"It loses its network and its OCPP {version} connection. It goes on charging; after half a minute it is "
        "shown offline, its values as unknown. When it is back it tells the energy of the meantime.",
        f"Pierde la red y su conexión OCPP {version}. Sigue cargando; a medio minuto aparece sin conexión, con "
        "valores desconocidos. Cuando vuelve, informa de la energía de ese tiempo.",
    )


FAULTS: Sequence[Fault] = (
    Fault(
        "battery_silent",
        "battery1",
        "silent",
        _both("Battery silent", "Batería en silencio"),
        _both(
            "The BMS sends nothing on CAN any more. Within seconds its values are unknown; a warning comes after 5 s,"
            " a critical alarm after 60 s, which stays until it is acknowledged.",
            "El BMS deja de enviar por CAN. En segundos sus valores son desconocidos; a los 5 s hay un aviso y a los "
            "60 s una alarma crítica, que sigue hasta que se reconoce.",
        ),
    ),
    Fault(
        "battery_frozen",
        "battery1",
        "frozen",
        _both("Battery frozen", "Batería congelada"),
        _both(
            "The BMS repeats its last frames for ever. The counter in them stands: after 4 s an alarm says that the "
            "values can't be believed.",
            "El BMS repite sus últimas tramas sin fin. El contador no avanza: a los 4 s una alarma dice que los "
            "valores no son creíbles.",
        ),
    ),
    Fault(
        "battery_hot",
        "battery1",
        "overtemperature",
        _both("Battery hot", "Batería caliente"),
        _both(
            "A fan fails. Above 50 °C the alarm battery_hot switches cp1 and cp2 off; at 60 °C the BMS opens its "
            "contactor and a latched alarm waits for somebody to acknowledge it.",
            "Falla un ventilador. Por encima de 50 °C la alarma battery_hot apaga cp1 y cp2; a 60 °C el BMS abre su "
            "contactor y una alarma enclavada espera a que alguien la reconozca.",
        ),
    ),
    Fault(
        "cell_out",
        "battery1",
        "imbalance",
        _both("A cell out of range", "Una celda fuera de rango"),
        _both(
            "The voltage of cell 3 drifts up by 0.3 V. The BMS reports an imbalance, then an overvoltage, and lets "
            "less or no current in.",
            "La tensión de la celda 3 sube 0,3 V. El BMS informa de un desequilibrio, luego de sobretensión, y deja "
            "entrar menos corriente o ninguna.",
        ),
    ),
    *_charger_faults("cp1", "OCPP 1.6", _called("1.6")),
    Fault(
        "cp1_broken",
        "cp1",
        "broken",
        _both("Charger cp1 has a ground fault", "Cargador cp1 con fallo a tierra"),
        _both(
            "It ends its session and tells the fault. After 10 s there is an alarm.",
            "Termina su sesión e informa del fallo. A los 10 s hay una alarma.",
        ),
    ),
    Fault(
        "cp1_ignores",
        "cp1",
        "ignores-limits",
        _both("Charger cp1 ignores limits", "El cargador cp1 ignora los límites"),
        _both(
            "It says yes to each new limit and draws what it likes. The gateway believes its meter: the others get "
            "less, so that the site stays within its limit.",
            "Acepta cada límite nuevo y toma lo que quiere. La pasarela cree a su medidor: los demás reciben menos, "
            "para que el sitio respete su límite.",
        ),
    ),
    *_charger_faults("cp3", "OCPP 2.0.1", _called("2.0.1")),
    *_charger_faults(
        "cp2",
        "Modbus",
        _both(
            "Nobody answers at its address any more. After three tries it is offline; it is tried again, less and "
            "less often.",
            "Nadie responde en su dirección. Tras tres intentos queda sin conexión; se vuelve a intentar, cada vez "
            "con menos frecuencia.",
        ),
    ),
    Fault(
        "cp2_mute",
        "cp2",
        "mute",
        _both("Charger cp2 times out", "El cargador cp2 no responde a tiempo"),
        _both(
            "It takes the connection and answers nothing. Each question times out, and the other devices are read as "
            "before.",
            "Acepta la conexión y no responde. Cada pregunta vence, y los demás equipos se leen como antes.",
        ),
    ),
    Fault(
        "pv1_offline",
        "pv1",
        "offline",
        _both("PV inverter offline", "Inversor fotovoltaico sin conexión"),
        _both(
            "Nobody answers at its address any more, and it goes on giving. What it gives is unknown; the grid's meter "
            "still counts it.",
            "Nadie responde en su dirección, y sigue entregando. No se sabe cuánto; el medidor de la red lo sigue "
            "contando.",
        ),
    ),
    Fault(
        "grid_silent",
        "grid",
        "silence",
        _both("Grid meter silent", "Medidor de red en silencio"),
        _both(
            "It sends nothing. After 10 s load management no longer knows what is free, and each station has its "
            "fail-safe limit.",
            "No envía nada. A los 10 s la gestión de carga ya no sabe cuánto queda libre, y cada estación tiene su "
            "límite seguro.",
        ),
    ),
    Fault(
        "grid_garbled",
        "grid",
        "bad_crc",
        _both("Grid meter garbled", "Medidor de red con errores"),
        _both(
            "A bit of each telegram is wrong. Its checksum says so: no wrong value gets in, and the meter counts as "
            "silent.",
            "Un bit de cada telegrama es falso. La suma de control lo delata: no entra ningún valor erróneo, y el "
            "medidor cuenta como silencioso.",
        ),
    ),
    Fault(
        "sub1_silent",
        "sub1",
        "silence",
        _both("Heat pump's meter silent", "Medidor de la bomba de calor en silencio"),
        _both(
            "It sends nothing. Its values are unknown, all others go on.",
            "No envía nada. Sus valores son desconocidos, los demás siguen.",
        ),
    ),
    Fault(
        "broker_down",
        "broker",
        "down",
        _both("Broker down", "Broker caído"),
        _both(
            "Nobody listens where the central server's broker was. What is measured waits in the buffer and drains "
            "within a minute after it is back.",
            "Nadie escucha donde estaba el broker del servidor central. Lo medido espera en la memoria y se envía "
            "a más tardar un minuto después de que vuelva.",
        ),
    ),
    Fault(
        "broker_half_open",
        "broker",
        "half_open",
        _both("Broker half open", "Broker medio abierto"),
        _both(
            "The connection stands and nothing comes through it. The gateway notices that nothing is confirmed, and "
            "dials again.",
            "La conexión sigue y nada pasa por ella. La pasarela nota que nada se confirma y vuelve a llamar.",
        ),
    ),
    Fault("battery_warm", "battery1", "warm", _both("", ""), _both("", ""), hidden=True),
)
