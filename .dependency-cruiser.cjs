/** Imports go one way: deploy -> server, worker -> shared -> protos. */
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'] } },
    {
      name: 'shared-knows-no-role',
      severity: 'error',
      from: { path: '^shared/' },
      to: { path: '^(server|worker|deploy|test)/|^index' },
    },
    {
      name: 'server-not-worker',
      severity: 'error',
      from: { path: '^server/' },
      to: { path: '^(worker|deploy|test)/|^index' },
    },
    {
      name: 'worker-not-server',
      severity: 'error',
      from: { path: '^worker/' },
      to: { path: '^(server|deploy|test)/|^index' },
    },
    {
      name: 'protos-know-nothing',
      severity: 'error',
      from: { path: '^protos/' },
      to: { path: '^(shared|server|worker|deploy|test)/|^index' },
    },
    { name: 'product-not-test', severity: 'error', from: { path: '^(deploy|index)' }, to: { path: '^test/' } },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    exclude: { path: 'node_modules|^dist' },
  },
};
