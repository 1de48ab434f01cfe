import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import * as z from 'zod';

const error = 'must be the id of a run, or the path of a run, a checkpoint, a LayersModel folder or safetensors';

/** What names a trained model: a run's id or a path. */
export function trainedSource(about: string) {
  return z.string({ error }).min(1, { error }).describe(about);
}

/** A path becomes absolute, from the folder of the run file; a bare name that is no file there is a run's id and stays. */
export function resolveTrained(text: string, folder: string): string {
  const path = resolve(folder, text);
  return /[/\\]/.test(text) || /^\.+$/.test(text) || existsSync(path) ? path : text;
}
