// Line icons on a 24-unit grid, drawn for this page. They decorate: what they mean stands beside them as text.
import type { JSX } from "preact";

const PATHS = {
  site: "M3 11 12 4l9 7M6 9.5V20h12V9.5M12 11l-2 4h4l-2 4",
  station: "M5 21V5a2 2 0 0 1 2-2h5a2 2 0 0 1 2 2v16M3 21h13M14 12h2a2 2 0 0 1 2 2v2a1.5 1.5 0 0 0 3 0V9l-3-3M10.5 7 8 11h3l-2 4",
  battery: "M3 8h15v9H3zM18 11h3v3h-3M7 10.5v4M10.5 10.5v4M14 10.5v4",
  devices: "M4 4h7v7H4zM13 13h7v7h-7zM13 4h7v5h-7zM4 15h7v5H4zM7.5 11v4M16.5 9v4",
  alarm: "M12 4a6 6 0 0 1 6 6v4l2 3H4l2-3v-4a6 6 0 0 1 6-6M10 20h4",
  energy: "M4 20V4M4 20h16M8 16v-4M12 16V7M16 16v-6",
  calendar: "M4 6h16v14H4zM4 10h16M8 3v4M16 3v4M8 14h3M8 17h6",
  wrench: "M14.5 6.5a4 4 0 0 0 5 5L10 21a2.1 2.1 0 0 1-3-3l9.5-9.5M14.5 6.5 17 4",
  system: "M5 4h14v6H5zM5 14h14v6H5zM8 7h.01M8 17h.01M12 7h4M12 17h4",
  users: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6.2M18 14.5a6.5 6.5 0 0 1 3.5 5.5",
  grid: "M12 3v18M7 21h10M6 8h12M8 12h8M9 21l3-18 3 18",
  house: "M4 11 12 4l8 7M6 10v10h12V10M10 20v-5h4v5",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5 19 19M5 19l1.5-1.5M17.5 6.5 19 5",
  cloud: "M7 18a4 4 0 0 1-.5-8A5.5 5.5 0 0 1 17 9.5a4.3 4.3 0 0 1 0 8.500z",
  close: "M6 6l12 12M18 6 6 18",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  check: "M5 13l4 4L19 7",
  warn: "M12 4 2.500 20h19zM12 10v4M12 17h.01",
  offline: "M3 3l18 18M8.500 15.500a5 5 0 0 1 6-.5M5 12a10 10 0 0 1 5-2.700M19 12a10 10 0 0 0-4-2.500M12 19h.01",
  more: "M4 7h16M4 12h16M4 17h16",
  play: "M7 5l12 7-12 7z",
  pause: "M8 5v14M16 5v14",
  power: "M12 3v9M6.500 7a8 8 0 1 0 11 0",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  plus: "M12 5v14M5 12h14",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  search: "M11 17a6 6 0 1 0 0-12 6 6 0 0 0 0 12M20 20l-4.500-4.500",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 7v5l3 2",
  mute: "M4 4l16 16M9 5.500A6 6 0 0 1 18 10v4l1 1.500M6.500 9A6 6 0 0 0 6 10v4l-2 3h11M10 20h4",
  temperature: "M10 13V5a2 2 0 0 1 4 0v8a4 4 0 1 1-4 0M12 9v8",
  theme: "M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9",
  lab: "M9 3h6M10 3v6l-5 9a2 2 0 0 0 2 3h10a2 2 0 0 0 2-3l-5-9V3M8 15h8",
  log: "M5 4h14v16H5zM8 8h8M8 12h8M8 16h5",
} as const;

export type IconName = keyof typeof PATHS;

export const Icon = ({ name }: { name: IconName }): JSX.Element => (
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d={PATHS[name]} />
  </svg>
);
