/*
 * Reads pictures from standard input and prints what COCO-SSD finds in each, a line of JSON a
 * picture: [{class, score, bbox: [left, top, width, height] in pixels}].
 *
 * A picture is its height and its width, two unsigned integers of 32 bits, little-endian, then
 * height x width x 3 bytes of RGB.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { load } from "@tensorflow-models/coco-ssd";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import { setBackend, tensor3d } from "@tensorflow/tfjs-core";

const MODEL = new URL("package/models/coco-ssd/", import.meta.url);
const WASM = new URL("node_modules/@tensorflow/tfjs-backend-wasm/dist/", import.meta.url);
// As many boxes as the library asks for by default, with scores below what is looked at.
const [MOST, LEAST_SCORE] = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [20, 0.3];

// The library loads models over HTTP alone: these requests are for files beside this one.
globalThis.fetch = async (url) => {
  const name = new URL(url).pathname.slice(1);
  const type = name.endsWith(".json") ? "application/json" : "application/octet-stream";
  return new Response(readFileSync(new URL(name, MODEL)), { headers: { "content-type": type } });
};

setWasmPaths(fileURLToPath(WASM));
await setBackend("wasm");
const detector = await load({ modelUrl: "http://localhost/model.json" });

const input = readFileSync(0);
for (let at = 0; at < input.length; ) {
  const [height, width] = [input.readUInt32LE(at), input.readUInt32LE(at + 4)];
  const end = at + 8 + height * width * 3;
  const picture = tensor3d(new Int32Array(input.subarray(at + 8, end)), [height, width, 3], "int32");
  console.log(JSON.stringify(await detector.detect(picture, MOST, LEAST_SCORE)));
  picture.dispose();
  at = end;
}
