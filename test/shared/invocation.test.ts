import assert from 'node:assert/strict';
import { commandLine, programName, type Surroundings } from '../../shared/invocation.ts';

describe('programName', () => {
  const clone: Surroundings = {
    script: '/c/whittle/dist/deploy/cli/main.js',
    env: {},
    cwd: '/c/whittle',
    root: '/c/whittle',
  };
  const name = (change: Partial<Surroundings>): string => programName({ ...clone, ...change });

  it('is npx inside a clone, which finds the command from any folder in it', () => {
    assert.equal(name({}), 'npx --no-install whittle');
    assert.equal(name({ cwd: '/c/whittle/runs/mine' }), 'npx --no-install whittle');
    assert.equal(name({ script: '/c/whittle/node_modules/.bin/whittle' }), 'npx --no-install whittle');
  });

  it('is the script by its path elsewhere', () => {
    assert.equal(name({ cwd: '/home' }), 'node /c/whittle/dist/deploy/cli/main.js');
    assert.equal(name({ cwd: '/c/whittle-2' }), 'node /c/whittle/dist/deploy/cli/main.js');
    assert.equal(name({ cwd: '/home', root: '/my c' }), "node '/my c/dist/deploy/cli/main.js'");
  });

  it('is whittle where that was called, and npx did not make it findable', () => {
    assert.equal(name({ script: '/usr/bin/whittle', cwd: '/home' }), 'whittle');
    assert.equal(name({ script: '/usr/bin/whittle' }), 'whittle');
    const env = { npm_command: 'exec' };
    assert.equal(
      name({ script: '/root/.npm/_npx/1/whittle', cwd: '/home', env }),
      'node /c/whittle/dist/deploy/cli/main.js',
    );
  });

  it('is npx in a project that depends on the package', () => {
    const root = '/p/node_modules/whittle-train';
    assert.equal(name({ root, cwd: '/p/src' }), 'npx --no-install whittle');
    assert.equal(name({ root, cwd: '/q' }), 'node /p/node_modules/whittle-train/dist/deploy/cli/main.js');
  });
});

describe('commandLine', () => {
  it('quotes what a shell would split', () => {
    assert.equal(
      commandLine('resume', '/my runs/a', "it's", '--set', 'a.b=1'),
      `${programName()} resume '/my runs/a' 'it'\\''s' --set a.b=1`,
    );
  });
});
