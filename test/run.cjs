// Runs the suite in groups, one process each: tests that load users' modules register loaders that others must not see.
// Two groups at a time: clusters spend much of their time waiting for processes to start and deadlines to pass. What a
// group says is shown when it is over.
const { spawn } = require('node:child_process');
const { appendFileSync, readdirSync, readFileSync, rmSync } = require('node:fs');

const LANES = 2;
/** The longest first. */
const GROUPS = [
  ...readdirSync('test/cluster')
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => `test/cluster/${file}`),
  ...['cluster/*', 'faults', 'deploy', 'shared', 'worker', 'server', 'bench'].map(
    (group) => `test/${group}/**/*.test.ts`,
  ),
];

const totals = process.env['WHITTLE_TEST_TOTALS'];
const sums = { passed: 0, failed: 0 };
let status = 0;

/** Runs one group; resolves when it is over. */
function run(spec, index) {
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
    spec,
  ];
  const file = `${totals ?? '/dev/null'}.${index}`;
  const env = { ...process.env, WHITTLE_TEST_TOTALS: totals ? file : '' };
  const child = spawn('npx', ['--no-install', ...args], { stdio: ['ignore', 'pipe', 'pipe'], env });
  const chunks = [];
  child.stdout.on('data', (chunk) => chunks.push(chunk));
  child.stderr.on('data', (chunk) => chunks.push(chunk));
  return new Promise((resolve) =>
    child.on('close', (code) => {
      process.stdout.write(`\n${spec}\n`);
      for (const chunk of chunks) process.stdout.write(chunk);
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

async function main() {
  const waiting = [...GROUPS.entries()];
  const lane = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await run(next[1], next[0]);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  if (totals) appendFileSync(totals, `${sums.passed} passed, ${sums.failed} failed\n`);
  if (status !== 0) process.stdout.write('\nsome tests failed\n');
  process.exitCode = status;
}

void main();
