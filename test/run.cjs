// Runs the suite in groups, one process each: tests that load users' modules register loaders that others must not see.
// Two lanes side by side: clusters spend much of their time waiting for processes to start and deadlines to pass.
const { spawn } = require('node:child_process');
const { appendFileSync, readFileSync, rmSync } = require('node:fs');

const LANES = [['cluster'], ['shared', 'server', 'worker', 'deploy', 'faults', 'bench']];

const totals = process.env['WHITTLE_TEST_TOTALS'];
const sums = { passed: 0, failed: 0 };
let status = 0;
/** The lane that writes to the terminal; the other's output is shown when it is over. */
let shown = 0;

/** Runs one group; resolves when it is over and its output is written or kept. */
function run(group, lane, kept) {
  const args = [
    'mocha',
    '--no-config',
    '--node-option',
    'import=tsx',
    '--timeout',
    '20000',
    '--reporter',
    'test/mocha-totals.cjs',
    ...(process.stdout.isTTY ? ['--color'] : []),
    '--spec',
    `test/${group}/**/*.test.ts`,
  ];
  const file = `${totals ?? '/dev/null'}.${group}`;
  const env = { ...process.env, WHITTLE_TEST_TOTALS: totals ? file : '' };
  const child = spawn('npx', ['--no-install', ...args], { stdio: ['ignore', 'pipe', 'pipe'], env });
  const write = (chunk) => (shown === lane ? process.stdout.write(chunk) : kept.push(chunk));
  child.stdout.on('data', write);
  child.stderr.on('data', write);
  return new Promise((resolve) =>
    child.on('close', (code) => {
      if (code !== 0) status = 1;
      if (totals) count(file);
      resolve();
    }),
  );
}

function count(file) {
  try {
    const [, passed, failed] = /(\d+) passed, (\d+) failed/.exec(readFileSync(file, 'utf8'));
    sums.passed += Number(passed);
    sums.failed += Number(failed);
  } catch {
    sums.failed += 1;
  }
  rmSync(file, { force: true });
}

async function runLane(groups, lane) {
  const kept = [];
  for (const group of groups) await run(group, lane, kept);
  return () => {
    shown = lane;
    for (const chunk of kept.splice(0)) process.stdout.write(chunk);
  };
}

async function main() {
  const lanes = LANES.map(runLane);
  for (const lane of lanes) (await lane)();
  if (totals) appendFileSync(totals, `${sums.passed} passed, ${sums.failed} failed\n`);
  process.exitCode = status;
}

void main();
