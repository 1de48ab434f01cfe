/**
 * The thread that computes: an Engine behind messages, so that a step never holds up heartbeats or streams.
 * Calls run one at a time in the order they came, but for evaluation chunks, which wait until nothing else does.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { WhittleError } from '../../shared/errors.ts';
import { serveThread, Transferred } from '../../shared/rpc/thread-calls.ts';
import { Engine, type EngineOptions } from './engine.ts';
import { TwoQueues } from './two-queues.ts';

if (parentPort === null) throw new WhittleError('INTERNAL', 'the compute thread was started as a program');

const options = workerData as EngineOptions;
const queues = new TwoQueues();
let engine: Engine | null = null;

function running(): Engine {
  if (engine === null) throw new WhittleError('INTERNAL', 'the compute thread has no engine yet');
  return engine;
}

function first<A, R>(work: (argument: A) => R | Promise<R>): (argument: A) => Promise<R> {
  return (argument) => queues.first(() => work(argument));
}

serveThread(parentPort, {
  create: first(async () => {
    engine = await Engine.create(options);
    const { description, fingerprint, numEvaluationChunks } = engine;
    return { description, fingerprint, numEvaluationChunks };
  }),
  loadInitial: first(() => running().loadInitial()),
  initialWeights: first(() => moved(running().initialWeights())),
  initialState: first(() => moved(running().initialState())),
  setMask: first(({ bitmap }: { bitmap: Uint8Array | null }) => running().setMask(bitmap)),
  setWeights: first(({ packed, state, clock }: { packed: Float32Array; state: Float32Array; clock: number }) =>
    running().setWeights(packed, state, clock),
  ),
  gradient: first(async ({ step, slice }: { step: number; slice: number }) => {
    const result = await running().gradient(step, slice);
    return new Transferred(result, [bufferOf(result.gradient), bufferOf(result.stateDelta)]);
  }),
  keepForEvaluation: first(({ clock }: { clock: number }) => running().keepForEvaluation(clock)),
  // Not before the chunks of that clock that were asked for earlier.
  dropEvaluation: ({ clock }: { clock: number }) => queues.last(() => running().dropEvaluation(clock)),
  evaluateChunk: ({ clock, chunk }: { clock: number; chunk: number }) =>
    queues.last(() => running().evaluateChunk(clock, chunk)),
});

function moved(values: Float32Array): Transferred<Float32Array> {
  return new Transferred(values, [bufferOf(values)]);
}

function bufferOf(values: Float32Array): ArrayBuffer {
  return values.buffer as ArrayBuffer;
}
