import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runFileJsonSchema } from '../../../shared/config/json-schema.ts';
import { packageRoot } from '../../../shared/package-root.ts';

const PATH = join(packageRoot, 'shared', 'config', 'run-file.schema.json');

describe('run-file.schema.json', () => {
  it('is what the schema gives (UPDATE_FIXTURES=1 writes it)', () => {
    const generated = `${JSON.stringify(runFileJsonSchema(), null, 2)}\n`;
    if (process.env['UPDATE_FIXTURES'] === '1') writeFileSync(PATH, generated);
    assert.equal(readFileSync(PATH, 'utf8'), generated);
  });

  it('describes every key', () => {
    const nameless: string[] = [];
    const visit = (node: unknown, path: string): void => {
      if (typeof node !== 'object' || node === null) return;
      for (const [key, value] of Object.entries(node)) {
        if (key === 'properties') {
          for (const [name, property] of Object.entries(value as Record<string, Record<string, unknown>>)) {
            // A kind is described by the mapping it belongs to; idx and csv by the source.
            if (
              property['description'] === undefined &&
              property['const'] === undefined &&
              !['idx', 'csv'].includes(name)
            )
              nameless.push(`${path}.${name}`);
          }
        }
        visit(value, `${path}.${key}`);
      }
    };
    visit(runFileJsonSchema(), '');
    assert.deepEqual(nameless, []);
  });
});
