// lookup.js prints what Node.js finds for each of its arguments: through the C library, and, for
// full names (with a final dot), through its own resolver.
const dns = require('node:dns').promises;
(async () => {
	for (const name of process.argv.slice(2)) {
		console.log('== ' + name);
		const found = await dns.lookup(name, { all: true }).catch(() => []);
		console.log(found.map((a) => a.address).join('\n') || 'none');
		if (!name.endsWith('.')) continue;
		console.log('== resolve ' + name);
		const own = [];
		for (const type of ['A', 'AAAA', 'SRV', 'TXT', 'CNAME']) {
			const records = await dns.resolve(name, type).catch((e) => [e.code]);
			for (const r of [records].flat()) {
				own.push(type + ' ' + JSON.stringify(r));
			}
		}
		console.log(own.join('\n'));
	}
})();
