/* Decodes a picture with the engine on any processor, without Python: for tests/system/test_other_processors.py.
 *
 *     decode FILE >PICTURE
 *
 * FILE holds pieces, each a length in bytes, int64, and as many bytes: the integers of `struct plan`, its six arrays in
 * their order, the tables of exponentials, the number of the arena's reals, the number of steps, the decoder's state
 * and the payload's words. */

#include "engine.c"
#include <stdio.h>
#include <stdlib.h>

static FILE *file;

static void *piece(void)
{
    int64_t bytes = 0;
    if (fread(&bytes, sizeof(bytes), 1, file) != 1) exit(2);
    char *found = calloc((size_t)bytes + 128, 1);    /* compiled code reads up to one vector past the end */
    if (fread(found, 1, (size_t)bytes, file) != (size_t)bytes) exit(2);
    return found;
}

int main(int argc, char **argv)
{
    if (argc != 2 || !(file = fopen(argv[1], "rb"))) return 2;
    struct plan plan;
    const int64_t *integers = piece();
    plan.slots = piece(), plan.runs = piece(), plan.ops = piece(), plan.ends = piece();
    plan.weights = piece(), plan.rows = piece();
    memcpy(&plan.slot_count, integers, sizeof(plan) - (size_t)((char *)&plan.slot_count - (char *)&plan));
    const double *head = piece(), *tail = piece();
    set_tables(head, tail);
    const int64_t reals = *(int64_t *)piece(), steps = *(int64_t *)piece();
    const uint64_t *state = piece();
    struct coder coder = {.x = state[0], .count = (int64_t)state[1], .words = piece()};
    const int64_t values = plan.channels * plan.height * plan.width;
    struct share share = {.count = 1, .n = 1, .temperature = 1, .guidance = 1, .parts = 1};
    struct team team = {.members = 1, .shares = &share, .coder = &coder, .room = plan.height};
    share.arena = share.scratch = calloc((size_t)reals + 128, sizeof(real));
    share.images = calloc((size_t)values, sizeof(image_level));
    share.team = &team;
    team.found = calloc((size_t)plan.height, sizeof(struct distribution));
    run_steps(&plan, &share, -plan.prelude, steps);
    fwrite(share.images, sizeof(image_level), (size_t)values, stdout);
    return coder.failed || coder.position != coder.count;
}
