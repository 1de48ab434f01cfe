// The spec reporter, and the totals in one line for scripts when WHITTLE_TEST_TOTALS names a file.
const { writeFileSync } = require('node:fs');
const Mocha = require('mocha');

module.exports = class Totals extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const file = process.env['WHITTLE_TEST_TOTALS'];
    runner.once('end', () => {
      const { passes, failures } = runner.stats;
      if (file) writeFileSync(file, `${passes} passed, ${failures} failed\n`);
    });
  }
};
