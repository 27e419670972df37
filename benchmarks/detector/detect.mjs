/*
 * node detect.mjs MOST LEAST_SCORE
 *
 * Reads pictures from standard input and prints what COCO-SSD finds in each, a line of JSON a
 * picture: [{class, score, bbox: [left, top, width, height] in pixels}], at most so many.
 *
 * A picture is its height and its width, two unsigned integers of 32 bits, little-endian, then
 * height x width x 3 bytes of RGB.
 */

import { readFileSync, readSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { load } from "@tensorflow-models/coco-ssd";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import { setBackend, tensor3d } from "@tensorflow/tfjs-core";

const MODEL = new URL("package/models/coco-ssd/", import.meta.url);
const WASM = new URL("node_modules/@tensorflow/tfjs-backend-wasm/dist/", import.meta.url);
const [MOST, LEAST_SCORE] = process.argv.slice(2).map(Number);

// The library loads models over HTTP alone: these requests are for files beside this one.
globalThis.fetch = async (url) => {
  const name = new URL(url).pathname.slice(1);
  const type = name.endsWith(".json") ? "application/json" : "application/octet-stream";
  return new Response(readFileSync(new URL(name, MODEL)), { headers: { "content-type": type } });
};

setWasmPaths(fileURLToPath(WASM));
await setBackend("wasm");
const detector = await load({ modelUrl: "http://localhost/model.json" });

// One at a time: whoever asks may wait for the answer before the next one.
function read(size) {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const count = readSync(0, bytes, at, size - at);
    if (count === 0) return null;
    at += count;
  }
  return bytes;
}

for (let head; (head = read(8)); ) {
  const [height, width] = [head.readUInt32LE(0), head.readUInt32LE(4)];
  const pixels = new Int32Array(read(height * width * 3));
  const picture = tensor3d(pixels, [height, width, 3], "int32");
  console.log(JSON.stringify(await detector.detect(picture, MOST, LEAST_SCORE)));
  picture.dispose();
}
