// What one decision, or one migrated read, costs in the flag libraries that run in process in Node.
//
//   node peers.cjs --modules DIR [--calls N] [--rounds N]     DIR: where `npm ci` was run; N calls in each round
//
// Prints one JSON object: {"peers": {NAME: nanoseconds per call, the median of the rounds}, "node", "versions"}.
// Of wall time and CPU time of the process the lower one counts: on a busy machine the first charges a peer for
// what others do, the second for its collector's threads.
//
// Nothing may reach for the network: all of them work on data given to them here, and a connection or a name
// lookup ends the run with an error.
'use strict';

const {createRequire} = require('node:module');
const net = require('node:net');
const dns = require('node:dns');
const path = require('node:path');

const KEYS = 1024;
const ROLLOUT_PERCENT = 5;

function refuse(what) {
  return () => {
    console.error(`peers.cjs: a peer asked for ${what}: it must not use the network`);
    process.exit(1);
  };
}
net.Socket.prototype.connect = refuse('a connection');
dns.lookup = refuse('a name lookup');
dns.promises.lookup = refuse('a name lookup');

function parseArguments() {
  const given = {modules: null, calls: 4000, rounds: 5};
  for (let i = 2; i < process.argv.length; i += 2) {
    const name = process.argv[i].replace(/^--/, '');
    if (!(name in given) || process.argv[i + 1] === undefined) {
      console.error('usage: peers.cjs --modules DIR [--calls N] [--rounds N]');
      process.exit(2);
    }
    given[name] = name === 'modules' ? process.argv[i + 1] : Number(process.argv[i + 1]);
  }
  return given;
}

const options = parseArguments();
const load = createRequire(path.resolve(options.modules, 'package.json'));

// As in the C++ benchmarks: 24 printable bytes.
const keys = Array.from({length: KEYS}, (_, i) => `customer-${String((i * 2654435761) % 1e15).padStart(15, '0')}`);

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

// `batch(n)` makes n calls.
async function measure(batch) {
  const nanosecondsPerCall = async (calls) => {
    const cpu = process.cpuUsage();
    const started = process.hrtime.bigint();
    await batch(calls);
    const wall = Number(process.hrtime.bigint() - started);
    const used = process.cpuUsage(cpu);
    return Math.min(wall, (used.user + used.system) * 1e3) / calls;
  };
  await nanosecondsPerCall(4 * options.calls);  // until the compiler has done what it will
  const rounds = [];
  for (let i = 0; i < options.rounds; ++i) rounds.push(await nanosecondsPerCall(options.calls));
  return median(rounds);
}

// That what is measured is a rollout to some of the keys.
async function checkRollout(name, isOn) {
  let on = 0;
  for (let i = 0; i < KEYS; ++i) if (await isOn(i)) ++on;
  const percent = on / KEYS * 100;
  if (percent < ROLLOUT_PERCENT / 2 || percent > ROLLOUT_PERCENT * 2) {
    throw new Error(`${name}: the flag is on for ${percent} % of the keys, not about ${ROLLOUT_PERCENT} %`);
  }
}

function synchronous(call) {
  let next = 0;
  let on = 0;  // so that the answer is used
  return async (n) => {
    for (let i = 0; i < n; ++i) {
      if (call(next)) ++on;
      next = (next + 1) % KEYS;
    }
  };
}

function asynchronous(call) {
  let next = 0;
  return async (n) => {
    for (let i = 0; i < n; ++i) {
      await call(next);
      next = (next + 1) % KEYS;
    }
  };
}

// A client on flags given here. With `events` it makes and keeps the events that its tracking is about; they are
// never due to be sent while this program runs.
async function launchDarklyClient(ld, data, events) {
  const sending =
      events ? {flushInterval: 86400, capacity: 10 * options.calls * (options.rounds + 4)} : {sendEvents: false};
  const client = ld.init('sdk-key', {
    updateProcessor: data.getFactory(), diagnosticOptOut: true, logger: ld.basicLogger({level: 'error'}), ...sending,
  });
  await client.waitForInitialization({timeout: 10});
  return client;
}

async function launchDarkly(results) {
  const ld = load('@launchdarkly/node-server-sdk');
  const data = new (load('@launchdarkly/node-server-sdk/integrations').TestData)();
  const rollout = (variations, weights) => ({
    on: true, version: 1, salt: 'salt', offVariation: 0, variations,
    fallthrough: {rollout: {variations: weights.map((weight, variation) => ({variation, weight}))}},
  });
  const weight = ROLLOUT_PERCENT * 1000;
  await data.usePreconfiguredFlag({key: 'flag', ...rollout([false, true], [100000 - weight, weight])});
  await data.usePreconfiguredFlag({key: 'variation', ...rollout(['shadow', 'live'], [100000 - weight, weight])});
  await data.usePreconfiguredFlag({key: 'dualwrite', ...rollout(['dualwrite'], [100000])});
  await data.usePreconfiguredFlag({key: 'shadow', ...rollout(['shadow'], [100000])});
  const contexts = keys.map((key) => ({kind: 'user', key}));

  for (const events of [false, true]) {
    const client = await launchDarklyClient(ld, data, events);
    let compared = 0;
    const read = async (key) => ld.LDMigrationSuccess(key);
    const migration = ld.createMigration(client, {
      readOld: read, readNew: read, writeOld: read, writeNew: read,
      latencyTracking: true, errorTracking: true,
      check: (a, b) => { ++compared; return a === b; },
    });
    const migratedRead = (flag) => asynchronous((i) => migration.read(flag, contexts[i], 'off', i));
    const once = await migration.read('shadow', contexts[0], 'off', 1);
    if (!once.success || compared !== 1) throw new Error('the migrated read is not what should be measured');
    const suffix = events ? '' : '_without_events';
    results[`launchdarkly_migration_read_dualwrite${suffix}`] = await measure(migratedRead('dualwrite'));
    results[`launchdarkly_migration_read_checked${suffix}`] = await measure(migratedRead('shadow'));
    if (events) continue;
    const boolVariation = (i) => client.boolVariation('flag', contexts[i], false);
    const migrationVariation = (i) => client.migrationVariation('variation', contexts[i], 'off');
    await checkRollout('LaunchDarkly', boolVariation);
    await checkRollout('LaunchDarkly', async (i) => (await migrationVariation(i)).value === 'live');
    results.launchdarkly_bool_variation_without_events = await measure(asynchronous(boolVariation));
    results.launchdarkly_migration_variation_without_events = await measure(asynchronous(migrationVariation));
  }
}

async function flagd(results) {
  const {FlagdCore} = load('@openfeature/flagd-core');
  const core = new FlagdCore();
  core.setConfigurations(JSON.stringify({flags: {flag: {
    state: 'ENABLED', variants: {on: true, off: false}, defaultVariant: 'off',
    targeting: {fractional: [['on', ROLLOUT_PERCENT], ['off', 100 - ROLLOUT_PERCENT]]},
  }}}));
  const contexts = keys.map((targetingKey) => ({targetingKey}));
  const isOn = (i) => core.resolveBooleanEvaluation('flag', false, contexts[i]).value;
  await checkRollout('flagd_core', isOn);
  results.flagd_core = await measure(synchronous(isOn));
}

async function unleash(results) {
  const {InMemStorageProvider, Unleash} = load('unleash-client');
  const client = new Unleash({
    appName: 'bench', url: 'http://nowhere.invalid/', refreshInterval: 0, metricsInterval: 0, disableMetrics: true,
    disableAutoStart: true, skipInstanceCountWarning: true, storageProvider: new InMemStorageProvider(),
    bootstrap: {data: [{
      name: 'flag', enabled: true, type: 'release', stale: false, variants: [],
      strategies: [{name: 'flexibleRollout', constraints: [], parameters:
          {rollout: String(ROLLOUT_PERCENT), stickiness: 'userId', groupId: 'flag'}}],
    }]},
  });
  const synchronized = new Promise((resolve) => { client.once('synchronized', resolve); });
  await client.start();
  await synchronized;  // comes later
  const contexts = keys.map((userId) => ({userId}));
  const isOn = (i) => client.isEnabled('flag', contexts[i]);
  await checkRollout('unleash_client', isOn);
  results.unleash_client = await measure(synchronous(isOn));
  client.destroy();
}

async function growthBook(results) {
  const {GrowthBookClient} = load('@growthbook/growthbook');
  const client = new GrowthBookClient().initSync({payload: {features: {flag: {
    defaultValue: false, rules: [{force: true, coverage: ROLLOUT_PERCENT / 100, hashAttribute: 'id'}],
  }}}});
  const contexts = keys.map((id) => ({attributes: {id}}));
  const isOn = (i) => client.isOn('flag', contexts[i]);
  await checkRollout('growthbook', isOn);
  results.growthbook = await measure(synchronous(isOn));
  client.destroy();
}

async function main() {
  const results = {};
  for (const peer of [launchDarkly, flagd, unleash, growthBook]) await peer(results);
  const {dependencies} = load('./package.json');
  console.log(JSON.stringify({peers: results, node: process.version, versions: dependencies}));
}

// Timers that a library may have left must not keep the process.
main().then(() => process.exit(0), (error) => {
  console.error(`peers.cjs: ${error.stack}`);
  process.exit(1);
});
