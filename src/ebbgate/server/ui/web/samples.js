// The code to paste for a limit.

const py = (text) => JSON.stringify(text);
const sh = (text) => (/^[\w./@:+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

export function creating(name, slots, decay) {
  return `ebbgate limit create ${sh(name)} --limit ${slots}${decay ? ` --rate ${sh(decay)}` : ''}`;
}

export function samples(name, slots, decay) {
  const server = `# EBBGATE_URL=ebbgate://${location.host}`;
  if (decay) {
    return [
      ['Python', `${server}\nfrom ebbgate.sync import rate_limit\n\nrate_limit(${py(name)})  # waits until a call is due\ncall()`],
      ['asyncio', `${server}\nfrom ebbgate.asyncio import rate_limit\n\nawait rate_limit(${py(name)})  # waits until a call is due\nawait call()`],
      ['REST', `curl --json '${JSON.stringify({ limits: [{ name, slots: 1 }], wait_seconds: 30 }).replaceAll("'", "'\\''")}' \\\n  ${location.origin}/v1/spends`],
      ['Create', creating(name, slots, decay)],
    ];
  }
  return [
    ['Python', `${server}\nfrom ebbgate.sync import concurrency\n\nwith concurrency(${py(name)}, occupy=1):\n    work()`],
    ['asyncio', `${server}\nfrom ebbgate.asyncio import concurrency\n\nasync with concurrency(${py(name)}, occupy=1):\n    await work()`],
    ['Shell', `export EBBGATE_URL=ebbgate://${location.host}\nebbgate run --limit ${sh(name)} -- ./work.sh`],
    ['REST', `curl --json '${JSON.stringify({ limits: [{ name, slots: 1 }], wait_seconds: 30 }).replaceAll("'", "'\\''")}' \\\n  ${location.origin}/v1/leases`],
    ['Create', creating(name, slots, '')],
  ];
}
