import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PATHS } from '../../../deploy/launchers/kubernetes/names.ts';
import { packageRoot } from '../../../shared/package-root.ts';

/** Instructions of a Dockerfile, continued lines joined. */
function instructions(file: string): string[] {
  const text = readFileSync(join(packageRoot, 'deploy/docker', file), 'utf8');
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '');
}

for (const file of ['Dockerfile', 'Dockerfile.gpu'])
  describe(`deploy/docker/${file}`, () => {
    const lines = instructions(file);
    const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
      peerDependencies: Record<string, string>;
    };

    it('copies what is there, and its ignore file lets it through', () => {
      const ignored = readFileSync(join(packageRoot, `deploy/docker/${file}.dockerignore`), 'utf8').split('\n');
      for (const line of lines.filter((each) => /^COPY (?!--from)/.test(each)))
        for (const source of line.split(/\s+/).slice(1, -1)) {
          assert.ok(existsSync(join(packageRoot, source)), source);
          assert.ok(ignored.includes(`!${source.split('/')[0]}`), `${source} is ignored`);
        }
    });

    it('runs scripts that package.json has, and the versions that it names', () => {
      const text = lines.join('\n');
      for (const [, script = ''] of text.matchAll(/npm run (\S+)/g)) assert.ok(manifest.scripts[script], script);
      for (const [, name = '', version] of text.matchAll(/(@tensorflow\/\S+)@(\d\S+)/g))
        assert.equal(version, manifest.peerDependencies[name]);
      assert.match(text, /npm ci --ignore-scripts/);
    });

    it('puts the package where the manifests look for it, and ends without root, under an init', () => {
      assert.equal(lines.filter((line) => line.startsWith('WORKDIR')).at(-1), `WORKDIR ${PATHS.package}`);
      assert.equal(lines.filter((line) => line.startsWith('USER')).at(-1), 'USER 1000:1000');
      assert.ok(lines.some((line) => line.startsWith('ENTRYPOINT ["tini", "--"')));
      assert.ok(lines.some((line) => line.startsWith('HEALTHCHECK')));
      // Pinned: an image built next year must be the same.
      for (const line of lines.filter((each) => each.startsWith('ARG'))) assert.match(line, /=\S+:\d+\.\d+\S*/);
    });
  });
