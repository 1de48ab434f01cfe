import { defineCommand, setOption } from '../command.ts';
import { drawCurve } from '../curve.ts';
import { formatCount, formatPercent } from '../quantities.ts';
import { type Column, formatTable } from '../table.ts';

/** Of parameters that are ranked within themselves. */
const PARAMETER_COLUMNS: readonly Column[] = [
  { title: 'parameter' },
  { title: 'elements', align: 'right' },
  { title: 'at the end', align: 'right' },
];

export const command = defineCommand({
  name: 'schedule',
  description: "Show a run file's sparsity by step: every mask update, and the curve over the run.",
  arguments: { file: { label: 'run.yaml', description: 'the run file' } },
  options: {
    set: setOption,
    rows: {
      type: 'integer',
      label: 'N',
      min: 2,
      default: 40,
      description: 'rows of the table, evenly picked; --json prints all',
    },
  },
  examples: [
    { command: 'schedule run.yaml', effect: 'print table and curve' },
    { command: 'schedule run.yaml --set sparsity.0.schedule.power=1', effect: 'see what a linear ramp would do' },
  ],
  handler: async ({ arguments: { file }, options, output }) => {
    const { loadRunFile } = await import('../../../shared/config/run-file.ts');
    const runFile = loadRunFile(file, { set: options.set });
    const { describeJob } = await import('../../../worker/training/describe.ts');
    const { ParameterSpace } = await import('../../../shared/layout/parameter-space.ts');
    const { ownTargets } = await import('../../../shared/sparsity/allocation/own-targets.ts');
    const { isTargetExact } = await import('../../../shared/sparsity/rules.ts');
    const { planRun, shortenUpdates } = await import('../../launchers/plan.ts');
    const { config, description, warnings } = await describeJob(runFile);
    for (const warning of warnings) output.warn(warning);
    // The plan that `launch --dry-run` shows, so that the two never differ.
    const plan = planRun({ config, description, runId: '', runDirectory: '', launcher: '', notes: [] });
    const updates = plan.sparsity.map(({ step, targets, sparsity, packed }) => {
      const removed = plan.parameters - packed;
      return { step, targets, removed, survivors: plan.prunable - removed, sparsity };
    });
    const { steps, parameters, prunable } = plan;
    const space = ParameterSpace.of(description.parameters);
    const own = ownTargets(config.sparsity, space);
    const isExact = isTargetExact(config.sparsity, space);
    const layers = plan.layers.map((each) => ({ ...each, finalSparsity: own.get(each.name) ?? null }));
    output.result(
      { name: config.name, steps, parameters, prunable, layers, rules: config.sparsity, updates, isExact },
      () => {
        if (updates.length === 0)
          return `${config.name}: no sparsity rules, the run stays dense (${formatCount(parameters)} parameters)`;
        const several = config.sparsity.length > 1;
        const columns: Column[] = [
          { title: 'step', align: 'right' },
          ...config.sparsity.map((_, k) => ({ title: several ? `target ${k}` : 'target', align: 'right' as const })),
          { title: 'removed', align: 'right' },
          { title: 'survivors', align: 'right' },
        ];
        const shown = shortenUpdates(updates, options.rows);
        const rows = shown.map(({ step, targets, removed, survivors }) => [
          step,
          ...targets.map((target) => formatPercent(target)),
          formatCount(removed),
          formatCount(survivors),
        ]);
        const left = updates.length - shown.length;
        const more =
          left === 0
            ? []
            : [
                output.style(
                  'dim',
                  `(${left} of ${updates.length} updates not shown; --rows ${updates.length} shows all)`,
                ),
              ];
        const ranked = layers.flatMap(({ name, size, finalSparsity }) =>
          finalSparsity === null ? [] : [[name, formatCount(size), formatPercent(finalSparsity)]],
        );
        // One alone says nothing that the first table does not.
        const byParameter = ranked.length < 2 ? [] : ['', formatTable(PARAMETER_COLUMNS, ranked)];
        const sparsityAt = (step: number): number => updates.findLast((update) => update.step <= step)?.sparsity ?? 0;
        return [
          `${output.style('bold', config.name)}: ${formatCount(prunable)} of ${formatCount(parameters)} parameters prunable, ${updates.length} mask updates in ${formatCount(steps)} steps`,
          '',
          formatTable(columns, rows),
          ...more,
          ...(isExact
            ? []
            : [
                output.style(
                  'dim',
                  '(about so many: what dies with a neuron or filter comes on top, what rules share counts once)',
                ),
              ]),
          ...byParameter,
          '',
          drawCurve(sparsityAt, steps),
        ].join('\n');
      },
    );
  },
});
