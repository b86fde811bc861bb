// How long a test may take, by what is tested: `agent/device_tests.py` has the figures, and a test holds these to them.

const ASKED_S = 12;
const HEARD_S = 13;
const READOUT_S = 45;
const CAN_S = 8;
const CHARGER_S = 15;

/** Seconds until the gateway gives up. `request` undefined: not known here. */
export function patienceOf(driver: string, protocol: string, request?: boolean): number {
  if (driver === "can") return CAN_S;
  if (driver === "ocpp") return CHARGER_S;
  if (driver === "modbus" || protocol === "mbus") return ASKED_S;
  return protocol === "d0" && request !== false ? READOUT_S : HEARD_S;
}
