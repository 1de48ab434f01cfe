import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = new URL('../../', import.meta.url);

/** Loads a module of the product with places of its text changed; fails where a place is not there any more. */
export async function loadMutant<T>(
  path: string,
  changes: readonly (readonly [place: string, instead: string])[],
): Promise<T> {
  const url = new URL(path, ROOT);
  let text = await readFile(fileURLToPath(url), 'utf8');
  for (const [place, instead] of changes) {
    assert.equal(text.split(place).length, 2, `${path} has this once: ${place}`);
    text = text.replace(place, instead);
  }
  text = text.replace(/ from '(\.{1,2}\/[^']+)'/g, (_, relative: string) => ` from '${new URL(relative, url).href}'`);
  const folder = await mkdtemp(join(tmpdir(), 'whittle-mutant-'));
  try {
    // Packages are looked for from where the file lies.
    await symlink(fileURLToPath(new URL('node_modules', ROOT)), join(folder, 'node_modules'));
    const file = join(folder, 'mutant.mts');
    await writeFile(file, text);
    return (await import(pathToFileURL(file).href)) as T;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
