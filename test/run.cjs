// Runs the suite in groups, one process each: tests that load users' modules register loaders that others must not see.
const { spawnSync } = require('node:child_process');
const { appendFileSync, readFileSync, rmSync } = require('node:fs');

const totals = process.env['WHITTLE_TEST_TOTALS'];
const sums = { passed: 0, failed: 0 };
let status = 0;
for (const group of ['shared', 'server', 'worker', 'deploy', 'cluster', 'faults', 'bench']) {
  const args = [
    'mocha',
    '--no-config',
    '--node-option',
    'import=tsx',
    '--timeout',
    '20000',
    '--reporter',
    'test/mocha-totals.cjs',
    '--spec',
    `test/${group}/**/*.test.ts`,
  ];
  const file = `${totals ?? '/dev/null'}.${group}`;
  const { status: code } = spawnSync('npx', ['--no-install', ...args], {
    stdio: 'inherit',
    env: { ...process.env, WHITTLE_TEST_TOTALS: totals ? file : '' },
  });
  if (code !== 0) status = 1;
  if (!totals) continue;
  try {
    const [, passed, failed] = /(\d+) passed, (\d+) failed/.exec(readFileSync(file, 'utf8'));
    sums.passed += Number(passed);
    sums.failed += Number(failed);
  } catch {
    sums.failed += 1;
  }
  rmSync(file, { force: true });
}
if (totals) appendFileSync(totals, `${sums.passed} passed, ${sums.failed} failed\n`);
process.exitCode = status;
