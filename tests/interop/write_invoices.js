const amqp = require("amqplib");
const { Client } = require("pg");

async function handle(database, message) {
	await database.query("BEGIN");
	const { rows } = await database.query("SELECT inbox.claim('billing', $1) AS claimed",
		[message.properties.messageId]);
	if (rows[0].claimed) {    // else it was handled before
		const event = JSON.parse(message.content);
		await database.query("INSERT INTO invoice (order_id, item) VALUES ($1, $2)", [event.order, event.item]);
	}
	await database.query("COMMIT");
}

async function main() {
	const database = new Client();
	await database.connect();
	const channel = await (await amqp.connect(process.env.AMQP_URL)).createChannel();
	await channel.prefetch(100);
	let last = Promise.resolve();    // one transaction after the other on this connection
	await channel.consume("billing", (message) => {
		last = last.then(() => handle(database, message))
			.then(() => channel.ack(message))    // after the commit, never before
			.catch(stop);
	});
}

function stop(failure) {
	console.error(failure.message);
	process.exit(1);    // what was not acknowledged comes again
}

main().catch(stop);
