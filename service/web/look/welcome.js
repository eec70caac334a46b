/** What the page says before there is an image. */

import { h, replace } from "../lib/dom.js";

export function welcome(root, store) {
  const draw = () => {
    if (store.get("image")) return;
    const [model] = store.get("models") ?? [];
    replace(
      root,
      h("div", { class: "welcome" },
        h("h1", {}, "What does the network see?"),
        h("p", { class: "lead" }, "Give it an image. You get its answer, and then you can look at how the answer arose: which parts of the image it rests on, what each layer makes of it, and the arithmetic of a single value."),
        model ? h("p", { class: "soft" }, knows(model)) : null,
        h("p", { class: "soft small" }, "The image goes to this server and nowhere else; it is not kept."),
      ),
    );
  };
  store.follow(["image", "models"], draw);
}

function knows({ labels }) {
  const some = labels.slice(0, 10).join(", ");
  const more = labels.length - 10;
  return `The model knows ${labels.length} classes: ${some}${more > 0 ? ` and ${more} more` : ""}. It answers with one of them whatever it is shown, and says when it is unsure.`;
}
