import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  {
    ignores: [
      'dist/',
      'node_modules/',
      'protos/generated/',
      'deploy/examples/',
      'runs/',
      '**/*.js',
      '**/*.cjs',
      '**/*.mjs',
    ],
  },
  tseslint.configs.recommendedTypeChecked,
  prettier,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/unbound-method': ['error', { ignoreStatic: true }],
      '@typescript-eslint/prefer-promise-reject-errors': ['error', { allowThrowingUnknown: true }],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true, allowArray: true },
      ],
      // Several interfaces are async so that a remote implementation fits them.
      '@typescript-eslint/require-await': 'off',
      'no-restricted-syntax': [
        'error',
        {
          selector: 'ExportDefaultDeclaration',
          message: 'Named exports only: a name is the same at every place of use.',
        },
      ],
    },
  },
  {
    // Kernels and codecs decide bits: library functions whose results differ between engines are not for them.
    files: [
      'shared/sparsity/**',
      'shared/kernels/**',
      'shared/codec/**',
      'shared/layout/**',
      'server/parameter-server/**',
    ],
    rules: {
      'no-restricted-properties': [
        'error',
        ...['pow', 'exp', 'log', 'log2', 'cos', 'sin', 'tan', 'tanh', 'cbrt', 'hypot', 'expm1', 'log1p'].map(
          (property) => ({
            object: 'Math',
            property,
            message: 'Its bits differ between versions of Node; use shared/kernels/math.ts.',
          }),
        ),
      ],
    },
  },
  {
    files: ['test/**'],
    rules: { '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafeCalls: ['it', 'describe'] }] },
  },
);
