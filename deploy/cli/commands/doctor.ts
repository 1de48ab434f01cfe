import { defineCommand } from '../command.ts';
import type { Finding } from '../doctor-checks.ts';
import type { Style } from '../output.ts';

const STYLES: Readonly<Record<Finding['status'], Style>> = { ok: 'green', warn: 'yellow', fail: 'red' };

export const command = defineCommand({
  name: 'doctor',
  description: 'Check that this machine can train. Exits with 1 where it cannot.',
  options: { runsDir: { type: 'string', label: 'DIR', default: 'runs', description: 'folder of run directories' } },
  examples: [
    { command: 'doctor', effect: 'print one line a check, with the cure where something is wrong' },
    { command: 'doctor --runs-dir /mnt/shared/runs', effect: 'check the storage that all roles share' },
  ],
  handler: async ({ options, output }) => {
    const { checkBackends, checkCores, checkData, checkMemory, checkNode, checkPort, checkRunsFolder, checkTransport } =
      await import('../doctor-checks.ts');
    const checks: readonly (() => Finding | Promise<Finding>)[] = [
      () => checkNode(),
      () => checkCores(),
      () => checkMemory(),
      checkBackends,
      checkData,
      () => checkRunsFolder(options.runsDir),
      () => checkPort(),
      checkTransport,
    ];
    const findings: Finding[] = [];
    for (const check of checks) {
      const finding = await check();
      findings.push(finding);
      const { check: name, status, detail, cure } = finding;
      output.line(
        `${output.style(STYLES[status], status.padEnd(4))}  ${name.padEnd(12)} ${detail}${cure === undefined ? '' : `\n${' '.repeat(19)}cure: ${cure}`}`,
      );
    }
    const failed = findings.filter(({ status }) => status === 'fail').length;
    output.result({ ok: failed === 0, checks: findings }, () =>
      failed === 0 ? 'this machine can train' : `${failed} of ${findings.length} checks failed`,
    );
    return failed === 0 ? 0 : 1;
  },
});
