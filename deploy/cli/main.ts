#!/usr/bin/env node
import { runCli } from './program.ts';

// `whittle list | head` closes our stdout early: that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(process.exitCode);
  throw error;
});

// No process.exit on success: what a command leaves open would show as a hang, and stdout is flushed. After a
// failure, whatever was half started must not keep the user waiting.
process.exitCode = await runCli(process.argv.slice(2), process);
if (process.exitCode !== 0) setTimeout(() => process.exit(), 3000).unref();
