// Records what a page does while it plays. Runs in the page before its own script.
{
  window.sockets = []; // its connections
  window.messages = []; // what arrived on them, as [time, message]
  window.sentMoves = []; // the headings that it sent, as [dx, dy]
  window.lastWelcome = null;
  window.lastState = { players: {} };
  window.states = 0; // how many states arrived
  window.said = []; // what the status line said, as [time, text]
  window.waits = []; // the milliseconds before each new connection
  window.frames = []; // the frames that it drew, as [time, places]; places: [x, y] by color

  // Tests may set these.
  window.gap = 0; // milliseconds between two states; those in between are kept from the page
  window.pace = 1; // how much longer its timers take than it asked for
  window.frameGap = 0; // extra milliseconds between two frames; drawing is what costs the most

  const OPENING_LIMIT = 10000; // milliseconds of the timer for the welcome, which is kept as it is

  let lastStateAt = -Infinity;
  window.WebSocket = class extends WebSocket {
    constructor(...address) {
      super(...address);
      sockets.push(this);
      this.addEventListener("message", (event) => {
        const now = performance.now();
        const message = JSON.parse(event.data);
        if (message.type === "state") {
          if (now - lastStateAt < gap) return event.stopImmediatePropagation();
          lastStateAt = now;
          lastState = message;
          states += 1;
        }
        if (message.type === "welcome") lastWelcome = message;
        messages.push([now, message]);
      });
    }
    send(data) {
      super.send(data);
      const { type, dx, dy } = JSON.parse(data);
      if (type === "move") sentMoves.push([dx, dy]);
    }
  };

  window.leave = () => {
    window.WebSocket = null; // so the page gives up
    for (const socket of sockets) socket.close();
  };

  const { setTimeout, requestAnimationFrame } = window;
  window.setTimeout = (callback, wait) => {
    if (wait === OPENING_LIMIT) return setTimeout(callback, wait);
    waits.push(wait);
    return setTimeout(callback, wait * pace);
  };

  let drawn = {}; // the places in the current frame
  let frameTime;
  let callbacks = []; // for the next frame
  const show = (time) => {
    if (frameTime) frames.push([frameTime, drawn]);
    frameTime = time;
    drawn = {};
    const due = callbacks;
    callbacks = [];
    for (const callback of due) callback(time);
  };
  window.requestAnimationFrame = (callback) => {
    callbacks.push(callback);
    if (callbacks.length > 1) return;
    if (frameGap === 0) requestAnimationFrame(show);
    else setTimeout(() => requestAnimationFrame(show), frameGap);
  };

  addEventListener("DOMContentLoaded", () => {
    const status = document.querySelector("[role=status]");
    if (!status) return; // not the page of the game
    const note = () => said.push([performance.now(), status.textContent]);
    new MutationObserver(note).observe(status, { childList: true });
    note();
  });

  // Squares are rectangles filled with their colors. Places are in pixels of the world.
  const { fillRect } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.fillRect = function (x, y, width, height) {
    const scale = this.canvas.width / lastWelcome.width;
    drawn[this.fillStyle] = [x / scale, y / scale];
    fillRect.call(this, x, y, width, height);
  };
}
