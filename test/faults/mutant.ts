import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = new URL('../../', import.meta.url);

type Changes = readonly (readonly [place: string, instead: string])[];

/**
 * Loads a module of the product with places of its text changed, and of modules `also` that it imports; fails where a
 * place is not there any more.
 */
export async function loadMutant<T>(
  path: string,
  changes: Changes,
  also: Readonly<Record<string, Changes>> = {},
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'whittle-mutant-'));
  try {
    // Packages are looked for from where the file lies.
    await symlink(fileURLToPath(new URL('node_modules', ROOT)), join(folder, 'node_modules'));
    const mutated = new Map(Object.keys(also).map((each) => [new URL(each, ROOT).href, join(folder, nameOf(each))]));
    for (const [each, its] of Object.entries({ ...also, [path]: changes })) {
      await writeFile(join(folder, nameOf(each)), await mutant(each, its, mutated));
    }
    return (await import(pathToFileURL(join(folder, nameOf(path))).href)) as T;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function mutant(path: string, changes: Changes, mutated: ReadonlyMap<string, string>): Promise<string> {
  const url = new URL(path, ROOT);
  let text = await readFile(fileURLToPath(url), 'utf8');
  for (const [place, instead] of changes) {
    assert.equal(text.split(place).length, 2, `${path} has this once: ${place}`);
    text = text.replace(place, instead);
  }
  return text.replace(/ from '(\.{1,2}\/[^']+)'/g, (_, relative: string) => {
    const { href } = new URL(relative, url);
    const own = mutated.get(href);
    return ` from '${own === undefined ? href : pathToFileURL(own).href}'`;
  });
}

function nameOf(path: string): string {
  return basename(path).replace(/\.ts$/, '.mts');
}
