#include "amqp/enquiry_declare.h"

#include "amqp/enquiry_ask.h"

/*
 * What must stay true: nothing is declared passively here, and nothing is ever
 * deleted: what is there and differs is answered with 406 and left alone.
 */

static amqp_table_t
make_table(const struct enquiry_arguments * arguments, amqp_table_entry_t * entries)
{
	for (size_t i = 0; i < arguments->count; i++) {
		const struct enquiry_argument * a = &arguments->list[i];

		entries[i].key = rabbitmq_text(a->name);
		switch (a->kind) {
		case ENQUIRY_ARGUMENT_TEXT:
			entries[i].value.kind = AMQP_FIELD_KIND_UTF8;
			entries[i].value.value.bytes = rabbitmq_text(a->text);
			break;
		case ENQUIRY_ARGUMENT_INTEGER:
			entries[i].value.kind = AMQP_FIELD_KIND_I64;
			entries[i].value.value.i64 = a->number;
			break;
		case ENQUIRY_ARGUMENT_BOOLEAN:
			entries[i].value.kind = AMQP_FIELD_KIND_BOOLEAN;
			entries[i].value.value.boolean = a->number != 0;
			break;
		case ENQUIRY_ARGUMENT_NOTHING:
			entries[i].value.kind = AMQP_FIELD_KIND_VOID;
			break;
		}
	}
	return ((amqp_table_t){.num_entries = (int)arguments->count, .entries = entries});
}

enum enquiry_answer
enquiry_declare_exchange(struct enquiry * q, const struct enquiry_declaration * d, struct error * e)
{
	amqp_table_entry_t entries[ENQUIRY_ARGUMENTS_MAX];
	amqp_exchange_declare_t declare = {.exchange = rabbitmq_text(d->name),
	    .type = rabbitmq_text(d->type),
	    .durable = d->durable,
	    .auto_delete = d->auto_delete,
	    .internal = d->internal,
	    .arguments = make_table(&d->arguments, entries)};

	return (enquiry_ask(q, AMQP_EXCHANGE_DECLARE_METHOD, &declare,
	    AMQP_EXCHANGE_DECLARE_OK_METHOD, e));
}

enum enquiry_answer
enquiry_declare_queue(struct enquiry * q, const struct enquiry_declaration * d, struct error * e)
{
	amqp_table_entry_t entries[ENQUIRY_ARGUMENTS_MAX];
	amqp_queue_declare_t declare = {.queue = rabbitmq_text(d->name),
	    .durable = d->durable,
	    .auto_delete = d->auto_delete,
	    .arguments = make_table(&d->arguments, entries)};

	return (enquiry_ask(q, AMQP_QUEUE_DECLARE_METHOD, &declare, AMQP_QUEUE_DECLARE_OK_METHOD,
	    e));
}

static enum enquiry_answer
bind_exchange(struct enquiry * q, const struct enquiry_binding * b, struct error * e)
{
	amqp_table_entry_t entries[ENQUIRY_ARGUMENTS_MAX];
	amqp_exchange_bind_t bind = {.destination = rabbitmq_text(b->destination),
	    .source = rabbitmq_text(b->exchange),
	    .routing_key = rabbitmq_text(b->routing_key),
	    .arguments = make_table(&b->arguments, entries)};

	return (enquiry_ask(q, AMQP_EXCHANGE_BIND_METHOD, &bind, AMQP_EXCHANGE_BIND_OK_METHOD, e));
}

static enum enquiry_answer
bind_queue(struct enquiry * q, const struct enquiry_binding * b, struct error * e)
{
	amqp_table_entry_t entries[ENQUIRY_ARGUMENTS_MAX];
	amqp_queue_bind_t bind = {.queue = rabbitmq_text(b->destination),
	    .exchange = rabbitmq_text(b->exchange),
	    .routing_key = rabbitmq_text(b->routing_key),
	    .arguments = make_table(&b->arguments, entries)};

	return (enquiry_ask(q, AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD, e));
}

enum enquiry_answer
enquiry_bind(struct enquiry * q, const struct enquiry_binding * b, struct error * e)
{
	return (b->to_exchange ? bind_exchange(q, b, e) : bind_queue(q, b, e));
}
