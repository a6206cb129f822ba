const { Client } = require("pg");

async function main([customer, item]) {
	const client = new Client();    // PGHOST, PGDATABASE, PGUSER, ...
	await client.connect();
	try {
		await client.query("BEGIN");
		const { rows } = await client.query(
			"INSERT INTO orders (customer, item) VALUES ($1, $2) RETURNING id", [customer, item]);
		await client.query("SELECT outbox.publish('shop', 'order.created', $1::json, ordering_key => $2)",
			[JSON.stringify({ order: rows[0].id, item }), customer]);
		// A plain INSERT, as an ORM makes it, does the same.
		await client.query(
			"INSERT INTO outbox.message (exchange, routing_key, payload_json, type) VALUES ($1, $2, $3, $4)",
			["shop", "customer.active", JSON.stringify({ customer }), "customer.active"]);
		await client.query("COMMIT");
	} finally {
		await client.end();    // a transaction that is still open is rolled back
	}
}

main(process.argv.slice(2)).catch((failure) => {
	console.error(failure.message);
	process.exit(1);
});
