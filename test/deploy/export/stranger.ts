import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { images } from './fixtures/image-data.ts';

const STRANGER = fileURLToPath(new URL('./fixtures/load-stock.mjs', import.meta.url));
const PIXELS = images(Int32Array.from({ length: 40 }, (_, i) => i));

/** What a process that has TensorFlow.js only makes of an exported model: its logits for the 40 images, 4 each. */
export async function loadByStranger(folder: string): Promise<{ outputs: number[]; weights: string[] }> {
  const server = createServer((request, response) => {
    readFile(join(folder, request.url ?? '')).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.json`;
    const { stdout } = await promisify(execFile)(process.execPath, [STRANGER, url, JSON.stringify([...PIXELS])]);
    // TensorFlow.js may put a banner before it.
    const line = stdout.split('\n').find((each) => each.startsWith('{')) ?? '';
    return JSON.parse(line) as { outputs: number[]; weights: string[] };
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}
