// Bundles src/ into dist/: names carry a hash of the content, so that browsers may keep them for ever, and each file stands
// there compressed as well. Pages that are not seen at once are chunks of their own.
import { build } from "esbuild";
import { readFile, rm, writeFile } from "node:fs/promises";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const OUT = new URL("dist/", import.meta.url).pathname;
const SOURCE = new URL("src/", import.meta.url).pathname;

await rm(OUT, { recursive: true, force: true });
const result = await build({
  entryPoints: { app: `${SOURCE}main.tsx`, style: `${SOURCE}style.css` },
  outdir: OUT,
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["chrome100", "firefox100", "safari15.4"],
  minify: true,
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".svg": "file" },
  legalComments: "eof",
  metafile: true,
  logLevel: "warning",
});

const outputs = Object.entries(result.metafile.outputs);
const nameOf = (entry) => outputs.find(([, one]) => one.entryPoint?.endsWith(entry))[0].split("/").pop();
const app = outputs.find(([, one]) => one.entryPoint?.endsWith("src/main.tsx"))[1];
const early = app.imports.filter((one) => one.kind === "import-statement").map((one) => one.path.split("/").pop());
const template = await readFile(`${SOURCE}index.html`, "utf8");
const icon = await readFile(`${SOURCE}icon.svg`);
const page = template
  .replace("{style}", nameOf("src/style.css"))
  .replace("{app}", nameOf("src/main.tsx"))
  .replace("{early}", early.map((name) => `<link rel="modulepreload" href="/static/${name}">\n`).join(""));
await writeFile(`${OUT}index.html`, page);
await writeFile(`${OUT}icon.svg`, icon);

for (const name of [...outputs.map(([path]) => path.split("/").pop()), "index.html", "icon.svg"]) {
  const content = await readFile(OUT + name);
  await writeFile(`${OUT}${name}.gz`, gzipSync(content, { level: 9 }));
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: content.length };
  await writeFile(`${OUT}${name}.br`, brotliCompressSync(content, { params }));
}
