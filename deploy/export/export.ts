import { randomBytes } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { digestCheckpoint, locatedAt } from '../../shared/checkpoint/digests.ts';
import { diskError, errorCode, makeFolder, syncFolder, writeDurably } from '../../shared/checkpoint/durable.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { deadFraction, reportLayers } from '../../shared/checkpoint/layer-report.ts';
import { hashFile, verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { LayerResult } from '../../shared/telemetry/run-status.ts';
import { whittleVersion } from '../../shared/version.ts';
import { batchesOfRun, checkpointEngine } from './checkpoint-engine.ts';
import type { ExportFormat, ExportSource } from './format.ts';
import { onnxFormat } from './onnx-format.ts';
import { packedFormat } from './packed-format.ts';
import { quantizedExport, type QuantizationReport } from './quantized-export.ts';
import { safetensorsFormat } from './safetensors-format.ts';
import { type ShrinkReport, writeShrunk } from './shrunk-checkpoint.ts';
import { tfjsFormat } from './tfjs-format.ts';

export const EXPORT_MANIFEST = 'export-manifest.json';

const FORMATS = {
  tfjs: tfjsFormat,
  safetensors: safetensorsFormat,
  onnx: onnxFormat,
} as const satisfies Record<string, ExportFormat>;
export type ExportFormatName = keyof typeof FORMATS;

export interface ExportOptions {
  /** A checkpoint's folder. */
  readonly folder: string;
  readonly format: ExportFormatName;
  /** Store whole numbers. Default: float32. */
  readonly quantize?: 'int8';
  /** Survivors and bitmaps in place of dense tensors; with format safetensors only. Default false. */
  readonly packed?: boolean;
  /** Folder to write; its parents are made. */
  readonly out: string;
  /** Replace an earlier export at `out`. Default false. */
  readonly force?: boolean;
  /** Batches that batch normalisation is measured over anew, 0: as the moving averages are. Default: as the run says. */
  readonly recalibrate?: number;
  readonly warn?: (message: string) => void;
  /** Takes what the user should know of how it went. */
  readonly note?: (message: string) => void;
  /** Leave out units that are dead, compute a constant, or are read by nothing. Default false. */
  readonly shrink?: boolean;
}

/** `export-manifest.json`, written last. */
export interface ExportManifest {
  readonly format: ExportFormatName;
  /** Survivors and bitmaps in place of dense tensors. */
  readonly packed: boolean;
  readonly whittleVersion: string;
  readonly runId: string;
  readonly generation: number;
  readonly clock: number;
  /** Of the run itself, at this checkpoint. */
  readonly testAccuracy: number | null;
  /** Absent where the weights are float32. */
  readonly quantization?: QuantizationReport;
  /** Of the elements that sparsity rules match, and of all parameters, biases and normalisations too. */
  readonly sparsity: number;
  readonly parameterSparsity: number;
  readonly maskDigest: string;
  readonly weightsDigest: string;
  /** Every parameter in model order; sparsity = removed / size. */
  readonly layers: readonly (LayerResult & { readonly sparsity: number })[];
  /** Where the model was shrunk: what left it and what had to stay. */
  readonly shrunk?: ShrinkReport;
  readonly files: readonly { readonly file: string; readonly bytes: number; readonly sha256: string }[];
}

/**
 * Writes a checkpoint's effective weights and states as a model for others, and answers what it wrote. The folder
 * appears whole: written beside it, loaded again and compared bit by bit with the checkpoint, then renamed.
 * Errors: CHECKPOINT (it does not verify), USAGE (`out` exists, or packed with another format), UNSUPPORTED (the format cannot hold the model), DISK.
 */
export async function exportRun(options: ExportOptions): Promise<ExportManifest> {
  if (options.shrink !== true) return exportCheckpoint(options, null);
  const out = resolve(options.out);
  await checkOut(out, options.force === true);
  const into = `${out}.${randomBytes(6).toString('hex')}.shrunk.tmp`;
  try {
    const folder = resolve(options.folder);
    // Measured with the whole model, the one that the run's module builds: units that stay see the same.
    const state = await recalibratedState(folder, await verifyCheckpoint(folder), options);
    return await exportCheckpoint({ ...options, folder: into }, await writeShrunk(folder, into, state));
  } finally {
    await rm(into, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** @param shrunk what left the checkpoint of `options.folder`, whose state is recalibrated already; null: it is as it was */
async function exportCheckpoint(options: ExportOptions, shrunk: ShrinkReport | null): Promise<ExportManifest> {
  const out = resolve(options.out);
  const { packed = false } = options;
  const format = formatOf(options.format, packed);
  const replaces = await checkOut(out, options.force === true);
  const folder = resolve(options.folder);
  const manifest = await verifyCheckpoint(folder);
  const { maskDigest, weightsDigest } = await digestCheckpoint(manifest, locatedAt(folder));
  const layers = await reportLayers({ folder, manifest }, null);
  const { runId, generation, clock, sparsity } = manifest;
  // The run's own evaluation is that of this export only where both recalibrate alike.
  const testAccuracy = batchesOf(manifest, options) === batchesOfRun(manifest) ? manifest.testAccuracy : null;
  const facts = { whittleVersion, runId, generation, clock, testAccuracy, sparsity, maskDigest, weightsDigest };
  const source: ExportSource = {
    folder,
    manifest,
    state: shrunk === null ? await recalibratedState(folder, manifest, options) : null,
    metadata: Object.fromEntries(Object.entries(facts).map(([key, value]) => [key, String(value)])),
    note: options.note ?? (() => undefined),
  };
  const quantized = options.quantize === undefined ? null : await quantizedExport(options.format, packed, source);
  const write = quantized?.write ?? format;
  const temporary = `${out}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await makeFolder(temporary);
    const names = await write(temporary, source);
    const files: { file: string; bytes: number; sha256: string }[] = [];
    for (const file of names) files.push({ file, ...(await hashFile(join(temporary, file))) });
    const exported: ExportManifest = {
      format: options.format,
      packed,
      ...facts,
      ...(quantized === null ? {} : { quantization: quantized.report }),
      parameterSparsity: deadFraction(layers),
      layers: layers.map((layer) => ({ ...layer, sparsity: layer.size === 0 ? 0 : 1 - layer.survivors / layer.size })),
      ...(shrunk === null ? {} : { shrunk }),
      files,
    };
    const json = Buffer.from(JSON.stringify(exported, null, 2) + '\n');
    await writeDurably(join(temporary, EXPORT_MANIFEST), json.length, (sink) => sink(json));
    await moveInto(temporary, out, replaces);
    return exported;
  } catch (error) {
    throw await diskError(out, 0, error);
  } finally {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
  }
}

function batchesOf({ config }: Manifest, { recalibrate }: ExportOptions): number {
  return recalibrate ?? config.recalibrate?.batches ?? 0;
}

/** Null where the moving averages stay as they are. */
async function recalibratedState(
  folder: string,
  manifest: Manifest,
  options: ExportOptions,
): Promise<Float32Array | null> {
  const batches = batchesOf(manifest, options);
  if (batches === 0) return null;
  const { engine } = await checkpointEngine(folder, manifest, options.warn ?? (() => undefined));
  try {
    return await engine.recalibrate(batches);
  } finally {
    engine.dispose();
  }
}

function formatOf(name: ExportFormatName, packed: boolean): ExportFormat {
  if (!packed) return FORMATS[name];
  if (name === 'safetensors') return packedFormat;
  throw new WhittleError(
    'USAGE',
    `--packed goes with --format safetensors, not with ${name}, whose readers know dense weights only`,
  );
}

/** Whether something at `out` is to be replaced. Only an earlier export or an empty folder ever is. */
async function checkOut(out: string, force: boolean): Promise<boolean> {
  let names: string[];
  try {
    names = await readdir(out);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw new WhittleError('USAGE', `${out} exists and is no folder that can be read; choose another --out`, {
      cause: error,
    });
  }
  if (!force) throw new WhittleError('USAGE', `${out} exists; choose another --out, or replace it with --force`);
  if (names.length > 0 && !names.includes(EXPORT_MANIFEST)) {
    throw new WhittleError(
      'USAGE',
      `${out} is not an earlier export, so --force does not replace it; choose another --out`,
    );
  }
  return true;
}

/** An earlier export stays whole beside the new one until the new one has its name. */
async function moveInto(temporary: string, out: string, replaces: boolean): Promise<void> {
  const old = `${temporary}.old`;
  if (replaces) await rename(out, old);
  try {
    await rename(temporary, out);
  } catch (error) {
    if (replaces) await rename(old, out);
    throw error;
  }
  await syncFolder(dirname(out));
  if (replaces) await rm(old, { recursive: true, force: true });
}
