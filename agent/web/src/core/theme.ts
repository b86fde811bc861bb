// Light, dark, or as the device has it.
import { keep, read } from "./i18n.ts";
import { Store } from "./store.ts";

export type Theme = "auto" | "light" | "dark";
const KEPT = "enlace.theme";
const kept = read(KEPT);
export const theme = new Store<Theme>(kept === "light" || kept === "dark" ? kept : "auto");

export function setTheme(next: Theme): void {
  keep(KEPT, next);
  theme.value = next;
  showTheme();
}

export function showTheme(): void {
  if (theme.value === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme.value;
}
