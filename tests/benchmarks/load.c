// A client that opens many SSE streams at once and costs little itself: one thread, epoll, no copy of what it reads.
//
// Built and driven by load.py, which says what each argument means. It sends the same request on every connection,
// decodes the chunked response just far enough to see the blank lines that end events, and prints one line of JSON.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FREE, CONNECTING, WRITING, IN_HEADERS, IN_BODY };           // a connection
enum { IN_SIZE, IN_SIZE_REST, IN_DATA, AFTER_DATA, IN_TRAILER };    // within a chunked body
enum { MORE, COMPLETE, ABORTED };                                   // what a read led to
enum { HEADERS_MAX = 16384, EVENT_MAX = 512, READ_MAX = 262144, BATCH = 512 };

typedef struct {
    int fd, state, written;
    int headers_length, chunk_state;
    char *headers;
    long long left;  // bytes of the chunk, or of the body
    bool chunked, close, trailer_line, comment;
    double began, last_event;
    int events, line_length, event_length;
    bool first_seen;
    char event[EVENT_MAX + 1];  // the beginning of the event's text, kept only if it is looked at
    int kept;
} Stream;

typedef struct {
    double *values;
    long count, size;
} Samples;

static struct {
    struct sockaddr_in address;
    char *request;
    int request_length, concurrency, keep_alive, abort_after, spin;
    long total;
    double connects_per_second, seconds, late_after, late_until;
    const char *first;  // the first token is the first event that holds this
} options;

static int poller;
static Stream *streams;
static long started, finished, completed, aborted, failed, refused, open_now, open_most;
static unsigned long long all_events, all_bytes, all_reads;
static Samples first_event, whole, gaps;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void add(Samples *samples, double value) {
    if (samples->count == samples->size) {
        samples->size = samples->size ? 2 * samples->size : 4096;
        samples->values = realloc(samples->values, samples->size * sizeof(double));
    }
    samples->values[samples->count++] = value;
}

static void await(Stream *stream, int events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = stream};
    epoll_ctl(poller, operation, stream->fd, &event);
}

static void close_stream(Stream *stream) {
    if (stream->fd >= 0) {
        close(stream->fd);
        stream->fd = -1;
        open_now--;
    }
    stream->state = FREE;
}

static void fail(Stream *stream) {
    failed++;
    finished++;
    close_stream(stream);
}

static void send_request(Stream *stream) {
    while (stream->written < options.request_length) {
        ssize_t sent = send(stream->fd, options.request + stream->written, options.request_length - stream->written,
                            MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            stream->state = WRITING;
            await(stream, EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        if (sent < 0) {
            fail(stream);
            return;
        }
        stream->written += sent;
    }
    stream->state = IN_HEADERS;
    await(stream, EPOLLIN, EPOLL_CTL_MOD);
}

static void begin(Stream *stream) {
    int fd = stream->fd;
    char *headers = stream->headers;
    memset(stream, 0, sizeof *stream);
    stream->fd = fd;
    stream->headers = headers ? headers : malloc(HEADERS_MAX + 1);
    stream->left = -1;
    stream->began = now();
    started++;
    if (fd >= 0) {
        send_request(stream);
        return;
    }
    stream->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (stream->fd < 0) {
        fail(stream);
        return;
    }
    if (++open_now > open_most) open_most = open_now;
    int on = 1;
    setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int answer = connect(stream->fd, (struct sockaddr *)&options.address, sizeof options.address);
    if (answer < 0 && errno != EINPROGRESS) {
        fail(stream);
        return;
    }
    stream->state = CONNECTING;
    await(stream, EPOLLOUT, EPOLL_CTL_ADD);
}

static void end(Stream *stream, double at, bool whole_one) {
    finished++;
    if (whole_one) {
        completed++;
        add(&whole, at - stream->began);
    } else {
        aborted++;
    }
    if (stream->close || !options.keep_alive || !whole_one) close_stream(stream);
    stream->state = FREE;
}

// One event has ended. Comments are none.
static int see_event(Stream *stream, double at) {
    if (stream->comment) return MORE;
    stream->event[stream->kept] = 0;
    all_events++;
    if (!stream->first_seen && (!*options.first || strstr(stream->event, options.first))) {
        stream->first_seen = true;
        add(&first_event, at - stream->began);
    }
    if (stream->events++ && at >= options.late_after && at < options.late_until) add(&gaps, at - stream->last_event);
    stream->last_event = at;
    return options.abort_after && stream->events >= options.abort_after ? ABORTED : MORE;
}

// Text of the event stream: lines, and a blank one at each event's end.
static int read_text(Stream *stream, const char *text, long length, double at) {
    const char *stop = text + length;
    while (text < stop) {
        const char *newline = memchr(text, '\n', stop - text);
        long part = (newline ? newline : stop) - text;
        if (newline && part && text[part - 1] == '\r') part--;
        if (part) {
            if (!stream->event_length) stream->comment = *text == ':';
            long room = EVENT_MAX - stream->kept;
            long keep = part < room ? part : room;
            memcpy(stream->event + stream->kept, text, keep);
            stream->kept += keep;
            stream->line_length += part;
            stream->event_length += part;
        }
        if (!newline) return MORE;
        text = newline + 1;
        if (!stream->line_length && stream->event_length) {
            int result = see_event(stream, at);
            stream->event_length = stream->kept = 0;
            if (result != MORE) return result;
        }
        stream->line_length = 0;
    }
    return MORE;
}

static int digit(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static int read_body(Stream *stream, const char *data, long length, double at) {
    if (!stream->chunked) {
        if (read_text(stream, data, length, at) == ABORTED) return ABORTED;
        stream->left -= length;
        return stream->left == 0 ? COMPLETE : MORE;
    }
    const char *stop = data + length;
    while (data < stop) {
        char c = *data;
        switch (stream->chunk_state) {
        case IN_SIZE:
        case IN_SIZE_REST:
            data++;
            if (c == '\n') {
                stream->chunk_state = stream->left ? IN_DATA : IN_TRAILER;
                stream->trailer_line = false;
            } else if (c == ';' || c == '\r' || stream->chunk_state == IN_SIZE_REST) {
                stream->chunk_state = IN_SIZE_REST;
            } else {
                stream->left = (stream->left < 0 ? 0 : stream->left) * 16 + digit(c);
            }
            break;
        case IN_DATA: {
            long part = stop - data < stream->left ? stop - data : stream->left;
            if (read_text(stream, data, part, at) == ABORTED) return ABORTED;
            data += part;
            stream->left -= part;
            if (!stream->left) stream->chunk_state = AFTER_DATA;
            break;
        }
        case AFTER_DATA:
            data++;
            if (c == '\n') stream->chunk_state = IN_SIZE, stream->left = 0;
            break;
        case IN_TRAILER:
            data++;
            if (c == '\n' && !stream->trailer_line) return COMPLETE;
            stream->trailer_line = c != '\n' && c != '\r';
            break;
        }
    }
    return MORE;
}

// Returns how many bytes of `data` were headers, or -1 if it is no answer to count.
static long read_headers(Stream *stream, const char *data, long length) {
    long room = HEADERS_MAX - stream->headers_length, before = stream->headers_length;
    long part = length < room ? length : room;
    memcpy(stream->headers + before, data, part);
    stream->headers[stream->headers_length += part] = 0;
    char *stop = strstr(stream->headers, "\r\n\r\n");
    if (!stop) return stream->headers_length == HEADERS_MAX ? -1 : length;
    if (atoi(stream->headers + 9) != 200) {
        refused++;
        return -1;
    }
    *stop = 0;
    stream->chunked = strcasestr(stream->headers, "transfer-encoding: chunked");
    stream->close = strcasestr(stream->headers, "connection: close");
    const char *size = strcasestr(stream->headers, "content-length:");
    stream->left = stream->chunked ? 0 : size ? atoll(size + 15) : -1;
    stream->state = IN_BODY;
    return stop + 4 - stream->headers - before;
}

static void read_some(Stream *stream) {
    static char buffer[READ_MAX];
    ssize_t length = recv(stream->fd, buffer, sizeof buffer, 0);
    double at = now();
    all_reads++;
    if (length <= 0) {
        if (length < 0 && errno == EAGAIN) return;
        fail(stream);
        return;
    }
    all_bytes += length;
    long headers = stream->state == IN_HEADERS ? read_headers(stream, buffer, length) : 0;
    if (headers < 0) {
        fail(stream);
        return;
    }
    if (stream->state != IN_BODY || headers == length) return;
    int result = read_body(stream, buffer + headers, length - headers, at);
    if (result != MORE) end(stream, at, result == COMPLETE);
}

static void handle(Stream *stream) {
    if (stream->state == FREE) {  // the server closed a connection that was kept
        close_stream(stream);
    } else if (stream->state == CONNECTING || stream->state == WRITING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error)
            fail(stream);
        else
            send_request(stream);
    } else {
        read_some(stream);
    }
    if (stream->state == FREE && started < options.total) begin(stream);
}

static void run(void) {
    struct epoll_event ready[BATCH];
    double began = now();
    int opened = 0;
    while (finished < options.total && now() - began < options.seconds) {
        double due = options.connects_per_second ? (now() - began) * options.connects_per_second + 1 : INFINITY;
        while (opened < options.concurrency && opened < due && started < options.total) begin(&streams[opened++]);
        bool connecting = opened < options.concurrency && started < options.total;
        int count = epoll_wait(poller, ready, BATCH, options.spin ? 0 : connecting ? 1 : 100);
        for (int i = 0; i < count; i++) handle(ready[i].data.ptr);
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, Samples *samples) {
    qsort(samples->values, samples->count, sizeof(double), by_value);
    printf("\"%s_ms\":{\"count\":%ld", name, samples->count);
    const double quantiles[] = {.5, .9, .99, 1};
    const char *names[] = {"p50", "p90", "p99", "max"};
    for (int i = 0; i < 4 && samples->count; i++) {
        long at = (long)ceil(quantiles[i] * samples->count) - 1;
        printf(",\"%s\":%.4f", names[i], samples->values[at < 0 ? 0 : at] * 1e3);
    }
    printf("},");
}

static void read_options(char **argument) {
    options.address.sin_family = AF_INET;
    inet_pton(AF_INET, argument[1], &options.address.sin_addr);
    options.address.sin_port = htons(atoi(argument[2]));
    FILE *file = fopen(argument[3], "rb");
    options.request = malloc(1 << 20);
    options.request_length = file ? fread(options.request, 1, 1 << 20, file) : 0;
    options.concurrency = atoi(argument[4]);
    options.total = atol(argument[5]);
    options.keep_alive = atoi(argument[6]);
    options.abort_after = atoi(argument[7]);
    options.connects_per_second = atof(argument[8]);
    options.seconds = atof(argument[9]);
    options.late_after = now() + atof(argument[10]);
    options.late_until = atof(argument[11]) > 0 ? options.late_after + atof(argument[11]) : INFINITY;
    options.first = argument[12];
    options.spin = atoi(argument[13]);
}

int main(int count, char **argument) {
    if (count != 14) return 2;
    read_options(argument);
    poller = epoll_create1(0);
    streams = calloc(options.concurrency, sizeof(Stream));
    for (int i = 0; i < options.concurrency; i++) streams[i].fd = -1;
    double began = now();
    run();
    double elapsed = now() - began;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"elapsed\":%.6f,\"started\":%ld,\"completed\":%ld,\"aborted\":%ld,\"failed\":%ld,\"refused\":%ld,", elapsed,
           started, completed, aborted, failed, refused);
    printf("\"open_most\":%ld,\"events\":%llu,\"bytes\":%llu,\"reads\":%llu,", open_most, all_events, all_bytes, all_reads);
    print("first", &first_event);
    print("whole", &whole);
    print("gap", &gaps);
    printf("\"client_cpu\":%.4f}\n", cpu);
    return 0;
}
