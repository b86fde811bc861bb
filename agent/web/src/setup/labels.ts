// What the keys of an entry are called for people. A key that is not here is called by its name.
import { language } from "../core/i18n.ts";

const LABELS: Readonly<Record<string, readonly [string, string]>> = {
  id: ["Name in the configuration", "Nombre en la configuración"], name: ["Name for people", "Nombre para personas"], profile: ["Model", "Modelo"], protocol: ["Protocol", "Protocolo"], url: ["Address", "Dirección"],
  port: ["Serial port", "Puerto serie"], channel: ["CAN bus", "Bus CAN"], interface: ["CAN interface", "Interfaz CAN"], charge_point_id: ["Identity of the charger", "Identidad del cargador"], connectors: ["Outlets", "Tomas"],
  unit_id: ["Unit (slave) number", "Número de unidad (esclavo)"], phases: ["Phases", "Fases"], max_current_a: ["Highest current, A", "Corriente máxima, A"], min_current_a: ["Lowest current, A", "Corriente mínima, A"], safe_limit_a: ["Safe limit, A", "Límite seguro, A"],
  every_s: ["Read each, s", "Leer cada, s"], timeout_s: ["Time for an answer, s", "Plazo de respuesta, s"], baud: ["Bit rate", "Velocidad"], bitrate: ["Bit rate", "Velocidad"], framing: ["Framing", "Trama"], stale_after_s: ["Old after, s", "Antiguo tras, s"],
  version: ["Version", "Versión"], off: ["How it is switched off", "Cómo se apaga"], password_file: ["File with the password", "Archivo con la contraseña"], key_file: ["File with the key", "Archivo con la clave"], security_profile: ["Security profile", "Perfil de seguridad"],
  report: ["Which readings are kept", "Qué lecturas se guardan"], address: ["Address on the bus", "Dirección en el bus"], request: ["Ask for readouts", "Pedir lecturas"], dbc: ["DBC files", "Archivos DBC"], part: ["Part", "Parte"],
};

export const label = (key: string): string => LABELS[key]?.[language.value === "es" ? 1 : 0] ?? key.replaceAll("_", " ");

const DRIVERS: Readonly<Record<string, readonly [string, string]>> = {
  ocpp: ["charger that calls (OCPP)", "cargador que llama (OCPP)"], modbus: ["Modbus", "Modbus"], can: ["CAN bus", "bus CAN"], serial_meter: ["meter on a serial line", "contador en línea serie"], posted: ["posted by a program", "enviado por un programa"], gateway: ["this gateway", "esta pasarela"],
};
export const driverName = (driver: string): string => DRIVERS[driver]?.[language.value === "es" ? 1 : 0] ?? driver;
