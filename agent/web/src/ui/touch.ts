// A finger on a chart does what a mouse does: along it, it marks a range; a tap tells the values (the browser makes a mouse of
// it). Up and down it scrolls the page, and two fingers enlarge it, as everywhere: `touch-action` in style.css leaves both to
// the browser, which then takes the finger away (`pointercancel`).
import type uPlot from "uplot";

/** A shorter drag is a tap that slipped. */
export const LEAST_PX = 8;

/** What is marked between two places, kept inside the chart. */
export function marked(from_px: number, to_px: number, width_px: number): { left: number; width: number } {
  const inside = (at: number): number => Math.max(0, Math.min(width_px, at));
  const [one, two] = [inside(from_px), inside(to_px)];
  return { left: Math.min(one, two), width: Math.abs(two - one) };
}

/** Listen to fingers on a chart; the answer ends it. The range goes where the mouse's goes: to the hook `setSelect`. */
export function dragByTouch(plot: uPlot): () => void {
  const { over } = plot;
  let began: { id: number; x: number } | undefined;
  const place = (event: PointerEvent): number => event.clientX - over.getBoundingClientRect().left;
  const show = (event: PointerEvent, told: boolean): void => {
    plot.setSelect({ ...marked(began!.x, place(event), over.clientWidth), top: 0, height: over.clientHeight }, told);
  };
  const clear = (): void => {
    began = undefined;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  };
  const down = (event: PointerEvent): void => {
    if (event.pointerType !== "touch") return;
    if (began) clear(); // a second finger: they enlarge the page
    else if (event.isPrimary) began = { id: event.pointerId, x: place(event) };
  };
  const move = (event: PointerEvent): void => {
    if (event.pointerId !== began?.id) return;
    plot.setCursor({ left: place(event), top: event.clientY - over.getBoundingClientRect().top });
    show(event, false);
  };
  const up = (event: PointerEvent): void => {
    if (event.pointerId !== began?.id) return;
    show(event, true);
    clear();
  };
  const gone = (event: PointerEvent): void => {
    if (event.pointerId === began?.id) clear();
  };
  const listeners = { pointerdown: down, pointermove: move, pointerup: up, pointercancel: gone } as const;
  for (const [name, heard] of Object.entries(listeners)) over.addEventListener(name as "pointerdown", heard);
  return () => {
    for (const [name, heard] of Object.entries(listeners)) over.removeEventListener(name as "pointerdown", heard);
  };
}
