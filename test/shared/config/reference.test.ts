import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runFileJsonSchema } from '../../../shared/config/json-schema.ts';
import { examplesOf, runFileReference, techniques } from '../../../shared/config/reference.ts';
import { packageRoot } from '../../../shared/package-root.ts';

const PATH = join(packageRoot, 'deploy', 'examples', 'README.md');
const FOLDER = join(packageRoot, 'deploy', 'examples');
const examples = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.yaml'))
  .sort()
  .map((name) => ({ name, text: readFileSync(join(FOLDER, name), 'utf8') }));

describe('deploy/examples/README.md', () => {
  it('is what schema and examples give (UPDATE_FIXTURES=1 writes it)', () => {
    const generated = runFileReference(runFileJsonSchema(), examples);
    if (process.env['UPDATE_FIXTURES'] === '1') writeFileSync(PATH, generated);
    assert.equal(readFileSync(PATH, 'utf8'), generated);
  });

  it('has an example of every technique', () => {
    const features = techniques(runFileJsonSchema());
    const found = examplesOf(features, examples);
    assert.deepEqual(
      features.filter((feature) => !found.has(feature)),
      [],
    );
  });
});

describe("init's run file", () => {
  it('names every key that is about what is trained and pruned', () => {
    const text = readFileSync(join(FOLDER, 'starter', 'run.yaml'), 'utf8');
    const paths = techniques(runFileJsonSchema()).map((feature) => feature.replace(/:.*|\[\]/g, ''));
    const words = new Set(paths.flatMap((path) => path.split('.').slice(0, 2)));
    const missing = [...words].filter((word) => !new RegExp(`\\b${word}:`).test(text));
    assert.deepEqual(missing, []);
  });
});
