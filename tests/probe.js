// What is noted of the page while it plays, for those who test or measure it.
{
  window.sockets = []; // its connections
  window.messages = []; // what came on them, with the time of each
  window.lastWelcome = null; // the last ones of them, and how many states there were
  window.lastState = { players: {} };
  window.states = 0;
  window.gap = 0; // milliseconds between two states of which it is not told
  window.waits = []; // the milliseconds of the timers that it set
  window.pace = 1; // how much longer they take than it asked for, but for the one of silence
  window.frameGap = 0; // milliseconds after each frame in which it gets no other, to be cheap
  window.said = []; // what the status line told, with the time of each
  window.frames = []; // their times, and where each draws squares: [x, y, time] by color

  let toldAt = -Infinity;
  window.WebSocket = class extends WebSocket {
    constructor(...address) {
      super(...address);
      sockets.push(this);
      this.addEventListener("message", (event) => {
        const now = performance.now();
        const message = JSON.parse(event.data);
        if (message.type === "state") {
          if (now - toldAt < gap) return event.stopImmediatePropagation();
          toldAt = now;
          lastState = message;
          states += 1;
        }
        if (message.type === "welcome") lastWelcome = message;
        messages.push([now, message]);
      });
    }
    send(data) {
      super.send(data);
      window.report?.(data);
    }
  };

  const { setTimeout, requestAnimationFrame } = window;
  window.setTimeout = (callback, wait) => {
    waits.push(wait);
    return setTimeout(callback, wait === 3000 ? wait : wait * pace);
  };

  let drawn = {}; // in the frame that is under way, and the time of that
  let due;
  let callbacks = []; // of the next frame
  const show = (time) => {
    if (due) frames.push([due, drawn]);
    due = time;
    drawn = {};
    const shown = callbacks;
    callbacks = [];
    for (const each of shown) each(time);
  };
  window.requestAnimationFrame = (callback) => {
    callbacks.push(callback);
    if (callbacks.length > 1) return;
    if (frameGap === 0) requestAnimationFrame(show);
    else setTimeout(() => requestAnimationFrame(show), frameGap);
  };

  addEventListener("DOMContentLoaded", () => {
    const status = document.querySelector("[role=status]");
    const note = () => said.push([performance.now(), status.textContent]);
    new MutationObserver(note).observe(status, { childList: true });
    note();
  });

  // Squares are what is filled in their colors. Places are in pixels of the world.
  const { fillRect } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.fillRect = function (x, y, width, height) {
    const scale = this.canvas.width / 800;
    drawn[this.fillStyle] = [x / scale, y / scale, performance.now()];
    fillRect.call(this, x, y, width, height);
  };
}
