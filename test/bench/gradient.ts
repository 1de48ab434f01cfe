/**
 * Time of one gradient of LeNet-300-100 (784-300-100-10, relu; batch 128) on stock wasm and on Whittle's, in one
 * run: two processes take turns, so that both see the same machine. Prints one line of JSON.
 *
 *     node --import tsx test/bench/gradient.ts [rounds]
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Tensor2D, Variable } from '@tensorflow/tfjs-core';
import { loadBackend } from '../../worker/backend/backend.ts';
import { tf } from '../../worker/backend/tf.ts';

type Which = 'stock' | 'whittle';

const WIDTHS = [784, 300, 100, 10];
const BATCH = 128;

async function load(which: Which): Promise<void> {
  if (which === 'whittle') {
    await loadBackend('wasm');
    return;
  }
  const require = createRequire(import.meta.url);
  const wasm = require('@tensorflow/tfjs-backend-wasm') as typeof import('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  await tf.setBackend('wasm');
}

/** Loss and gradients once; returns milliseconds. */
function step(layers: readonly { kernel: Variable; bias: Variable }[], x: Tensor2D, labels: Tensor2D): number {
  const start = performance.now();
  tf.tidy(() => {
    const { grads } = tf.variableGrads(() => {
      let y = x;
      layers.forEach(({ kernel, bias }, index) => {
        y = tf.add(tf.matMul(y, kernel as unknown as Tensor2D), bias);
        if (index < layers.length - 1) y = tf.relu(y);
      });
      return tf.losses.softmaxCrossEntropy(labels, y).asScalar();
    });
    for (const gradient of Object.values(grads)) gradient.dataSync();
  });
  return performance.now() - start;
}

async function measure(which: Which): Promise<void> {
  await load(which);
  const layers = WIDTHS.slice(1).map((width, index) => ({
    kernel: tf.variable(tf.randomNormal([WIDTHS[index] as number, width], 0, 0.05, 'float32', index + 1)),
    bias: tf.variable(tf.zeros([width])),
  }));
  const x = tf.randomUniform([BATCH, 784], 0, 1, 'float32', 9) as unknown as Tensor2D;
  const labels = tf.oneHot(
    tf.tensor1d(
      Array.from({ length: BATCH }, (_, k) => k % 10),
      'int32',
    ),
    10,
  ) as Tensor2D;
  for (let k = 0; k < 5; k++) step(layers, x, labels);
  process.send?.('ready');
  process.on('message', (times: number) => {
    process.send?.(Array.from({ length: times }, () => step(layers, x, labels)));
  });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

async function main(rounds: number): Promise<void> {
  const children = new Map<Which, ChildProcess>();
  const times: Record<Which, number[]> = { stock: [], whittle: [] };
  for (const which of ['stock', 'whittle'] as const) {
    const child = fork(fileURLToPath(import.meta.url), [], { env: { ...process.env, WHITTLE_BENCH: which } });
    await once(child, 'message');
    children.set(which, child);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [which, child] of children) {
      child.send(5);
      const [answer] = (await once(child, 'message')) as [number[]];
      times[which].push(...answer);
    }
  }
  for (const child of children.values()) child.disconnect();
  const [stockMs, whittleMs] = [median(times.stock), median(times.whittle)];
  const round2 = (value: number): number => Math.round(value * 100) / 100;
  console.log(
    JSON.stringify({
      what: 'gradient of LeNet-300-100, batch 128, wasm',
      samples: times.stock.length,
      stockMs: round2(stockMs),
      whittleMs: round2(whittleMs),
      ratio: round2(stockMs / whittleMs),
    }),
  );
}

const role = process.env['WHITTLE_BENCH'];
if (role === undefined) await main(Number(process.argv[2] ?? 10));
else await measure(role as Which);
